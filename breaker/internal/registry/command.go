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
		Usage: "[open|close|auto <name> [<key>]] [--for <duration>]",
		Short: "Shows and forces the circuit breakers of a running gateway",
		Long: `
Without arguments it lists them. open and close force the state of a breaker, or
of one of its keys, for a time; auto gives it back to its rules.`,
		Examples: []string{"breakers", "breakers open users --for 30m", "breakers auto users"},
		Args:     cobra.MaximumNArgs(3),
		Flags: func(cmd *cobra.Command) {
			cmd.Flags().Duration("for", defaultForced, "How long the state is forced")
		},
		Run: runBreakers,
	})
}

func runBreakers(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return admin.Do(cmd, http.MethodGet, adminPath, nil, printBreakers)
	}
	state, ok := map[string]string{"open": "open", "close": "closed", "auto": "auto"}[args[0]]
	if !ok {
		return fmt.Errorf("%q: accepted are open, close and auto", args[0])
	}
	if len(args) < 2 {
		return errors.New(args[0] + ": name the breaker")
	}
	uri := adminPath + "/" + url.PathEscape(args[1])
	if len(args) == 3 {
		uri += "?key=" + url.QueryEscape(args[2])
	}
	d, _ := cmd.Flags().GetDuration("for")
	return admin.Do(cmd, http.MethodPost, uri, forceRequest{State: state, For: d.String()}, printBreakers)
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
