package registry

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/spf13/cobra"

	"github.com/pythopus/tentagate/internal/admin"
)

func init() {
	admin.Register(admin.Command{
		Name:  "breakers",
		Usage: "[<name> [<key>] | open|close|auto <name> [<key>]] [--for <duration>]",
		Short: "Shows and forces the circuit breakers of a running gateway",
		Long: `
Without arguments it lists all of them; with a name, those of that name. open and
close force the state of a breaker, or of one of its keys, for up to 30 days; auto
ends that, so that its rules decide again.`,
		Examples: []string{"breakers", "breakers users", "breakers open users --for 30m", "breakers auto users"},
		Args:     cobra.MaximumNArgs(3),
		Flags: func(cmd *cobra.Command) {
			cmd.Flags().String("for", "", "How long the state is forced, such as 30m or 7d (default: 10m)")
		},
		Run: runBreakers,
	})
}

func runBreakers(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return admin.Do(cmd, http.MethodGet, adminPath, nil, printBreakers)
	}
	state, ok := map[string]string{"open": "open", "close": "closed", "auto": "auto"}[args[0]]
	target := args
	if ok {
		target = args[1:]
	}
	switch {
	case len(target) == 0:
		return errors.New(args[0] + ": name the breaker")
	case len(target) > 2:
		return fmt.Errorf("%q: accepted are open, close and auto, or the name of a breaker and a key", args[0])
	}
	uri := adminPath + "/" + url.PathEscape(target[0])
	if len(target) == 2 {
		uri += "?key=" + url.QueryEscape(target[1])
	}
	request := forceRequest{State: state}
	request.For, _ = cmd.Flags().GetString("for")
	if !ok {
		if request.For != "" {
			return errors.New("--for: it is for open and close")
		}
		return admin.Do(cmd, http.MethodGet, uri, nil, printBreakers)
	}
	// Checked here too, so that the error names the flag.
	if _, _, err := request.evaluate(); err != nil {
		return fmt.Errorf("--%w", err)
	}
	return admin.Do(cmd, http.MethodPost, uri, request, printBreakers)
}

func printBreakers(w io.Writer, list []breakerState) error {
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
	return nil
}
