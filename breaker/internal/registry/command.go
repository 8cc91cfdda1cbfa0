package registry

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"

	"github.com/pythopus/tentagate/internal/adminclient"
)

func init() {
	caddycmd.RegisterCommand(caddycmd.Command{
		Name:  "breakers",
		Usage: "[open|close|auto <name> [<key>]] [--for <duration>] [--json] " + adminclient.Usage,
		Short: "Shows and forces circuit breakers of a running gateway",
		Long: `
Asks the admin API of a running gateway for its circuit breakers.

Without arguments they are listed. open and close force the state of a breaker,
or of one of its keys, for a time; auto gives it back to its rules.
` + adminclient.Help,
		CobraFunc: func(cmd *cobra.Command) {
			cmd.Args = cobra.MaximumNArgs(3)
			commandFlags(cmd)
			cmd.RunE = runBreakers
		},
	})
}

func commandFlags(cmd *cobra.Command) {
	adminclient.Flags(cmd)
	cmd.Flags().Duration("for", defaultForced, "How long the state is forced")
	cmd.Flags().Bool("json", false, "Print the answer of the admin API as it is")
}

func runBreakers(cmd *cobra.Command, args []string) error {
	method, uri := http.MethodGet, adminPath
	var order any
	if len(args) > 0 {
		state, ok := map[string]string{"open": "open", "close": "closed", "auto": "auto"}[args[0]]
		if !ok {
			return fmt.Errorf("%q: accepted are open, close and auto", args[0])
		}
		if len(args) < 2 {
			return errors.New(args[0] + ": name the breaker")
		}
		method, uri = http.MethodPost, adminPath+"/"+url.PathEscape(args[1])
		if len(args) == 3 {
			uri += "?key=" + url.QueryEscape(args[2])
		}
		d, _ := cmd.Flags().GetDuration("for")
		order = orderRequest{State: state, For: d.String()}
	}
	body, err := adminclient.Send(cmd.Flags(), method, uri, order)
	if err != nil {
		return err
	}
	defer body.Close()
	if raw, _ := cmd.Flags().GetBool("json"); raw {
		_, err = io.Copy(cmd.OutOrStdout(), body)
		return err
	}
	return printBreakers(cmd.OutOrStdout(), body)
}

// printBreakers writes the admin API's answer as a table.
func printBreakers(out io.Writer, body io.Reader) error {
	var list []breakerState
	if err := json.NewDecoder(body).Decode(&list); err != nil {
		return err
	}
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "NAME\tSCOPE\tKEY\tSTATE\tFOR\tREQUESTS\tFAILURES\tSLOW\tLAST ERROR")
	for _, b := range list {
		state, left := b.State, b.Open
		if b.Forced > 0 {
			state, left = state+" (forced)", b.Forced
		}
		remaining := "-"
		if left > 0 {
			remaining = time.Duration(left * float64(time.Second)).Round(time.Second).String()
		}
		fmt.Fprintf(w, "%s\t%s\t%q\t%s\t%s\t%d\t%d\t%d\t%q\n", b.Name, b.Scope, b.Key, state, remaining, b.Requests, b.Failures, b.Slow, b.LastError)
	}
	return w.Flush()
}

func zapFields(t *target, state string, d time.Duration) []zap.Field {
	fields := []zap.Field{zap.String("name", t.name), zap.String("state", state)}
	if t.hasKey {
		fields = append(fields, zap.String("key", t.key))
	}
	if d > 0 {
		fields = append(fields, zap.Duration("for", d))
	}
	return fields
}
