package dryrun

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pythopus/tentagate/internal/admin"
	"github.com/pythopus/tentagate/internal/explain"
	"github.com/pythopus/tentagate/internal/explain/past"
)

// maxToken bounds a token from standard input, in bytes.
const maxToken = 64 << 10

const requestIDFlag = "request-id"

func init() {
	admin.Register(admin.Command{
		Name:  "explain",
		Usage: "[-X <method>] [-H <field>] [--token <token>] [--client <ip>] <url> | --request-id <id>",
		Short: "Shows what a running gateway would do with a request, or did, and why",
		Long: `
Leads a request through the handlers of the running configuration and prints what each
decides: the service, guard, CORS, the token, limits and what is left of them, what is
stored, circuit breakers, and the upstream. Nothing is counted, taken or stored, and no
service is asked. The port of the URL says which server of the gateway is asked; without
one, a server that is alone is taken.

With --request-id it prints what the gateway decided about a request that it had, and how
long that took. The id is in the field X-Request-Id of the response, in the body of an
error, and in the access log. Each gateway has its own last requests in memory.

The exit code is 0 whatever becomes of the request, and 1 if no request has the id.`,
		Examples: []string{
			"explain https://api.example.com/api/users/1",
			"explain -X POST -H 'Origin: https://app.example.com' --token - http://localhost:8000/api/orders < token.txt",
			"explain --request-id 019a1b2c-3d4e-7f60-8a9b-0c1d2e3f4a5b",
		},
		Args: func(cmd *cobra.Command, args []string) error {
			if !cmd.Flags().Changed(requestIDFlag) {
				return cobra.ExactArgs(1)(cmd, args)
			}
			for _, name := range []string{"method", "header", "token", "client"} {
				if cmd.Flags().Changed(name) {
					return fmt.Errorf("--%s is for a URL: a request that the gateway had is found by --%s alone", name, requestIDFlag)
				}
			}
			return cobra.NoArgs(cmd, args)
		},
		Flags: func(cmd *cobra.Command) {
			cmd.Flags().StringP("method", "X", "", "Method of the request (default GET)")
			cmd.Flags().StringArrayP("header", "H", nil, "Field of the request, as 'Name: value'; can be given more than once")
			cmd.Flags().String("token", "", "Token for 'Authorization: Bearer'; - reads it from standard input, which keeps it out of the list of processes")
			cmd.Flags().String("client", "", "IP address of the client (default 127.0.0.1)")
			cmd.Flags().String(requestIDFlag, "", "Print what was decided about the request with this id, in place of a URL")
		},
		Run: func(cmd *cobra.Command, args []string) error {
			if cmd.Flags().Changed(requestIDFlag) {
				id, _ := cmd.Flags().GetString(requestIDFlag)
				return past.Show(cmd, id)
			}
			q, err := requestOf(cmd, args[0])
			if err != nil {
				return err
			}
			return admin.Do(cmd, http.MethodPost, uri, q, show)
		},
	})
}

// requestOf makes the request that the flags describe.
func requestOf(cmd *cobra.Command, target string) (q Request, err error) {
	q.URL = target
	q.Method, _ = cmd.Flags().GetString("method")
	q.Client, _ = cmd.Flags().GetString("client")
	q.Token, _ = cmd.Flags().GetString("token")
	if q.Token == "-" {
		line, err := bufio.NewReader(io.LimitReader(cmd.InOrStdin(), maxToken)).ReadString('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return q, fmt.Errorf("reading the token: %w", err)
		}
		if q.Token = strings.TrimSpace(line); q.Token == "" {
			return q, errors.New("--token -: standard input has no token")
		}
	}
	fields, _ := cmd.Flags().GetStringArray("header")
	for _, field := range fields {
		name, value, ok := strings.Cut(field, ":")
		if name = strings.TrimSpace(name); !ok || name == "" {
			return q, errors.New("--header: write 'Name: value', such as 'Origin: https://app.example.com'")
		}
		if q.Headers == nil {
			q.Headers = map[string][]string{}
		}
		q.Headers[name] = append(q.Headers[name], strings.TrimSpace(value))
	}
	return q, nil
}

// outcomes are what people read.
var outcomes = map[Outcome]string{
	forwarded: "the service is asked", refused: "refused by the gateway", answered: "answered by the gateway",
	unknown: "not known: the last handler above cannot be tried without a real request",
}

func show(w io.Writer, a Answer) error {
	fmt.Fprintf(w, "%s %s from %s, at the server %s\n\n", a.Method, a.URL, a.Client, a.Server)
	steps := slices.Clone(a.Steps)
	for _, u := range a.Upstreams {
		if !u.Available {
			steps = append(steps, explain.Step{Handler: "upstream", Result: explain.Refuses, Reason: u.Address + ": " + u.Reason})
		}
	}
	explain.PrintSteps(w, steps)
	fmt.Fprintf(w, "\n%s", outcomes[a.Outcome])
	if a.Status != 0 {
		fmt.Fprintf(w, ": the client gets %d %s", a.Status, http.StatusText(a.Status))
	}
	fmt.Fprintln(w)
	for _, name := range shownFields {
		for _, value := range a.Fields[name] {
			fmt.Fprintf(w, "%s: %s\n", name, value)
		}
	}
	return nil
}
