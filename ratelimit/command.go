package ratelimit

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"text/tabwriter"

	"github.com/spf13/cobra"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"

	"github.com/pythopus/tentagate/internal/adminclient"
)

func init() {
	caddycmd.RegisterCommand(caddycmd.Command{
		Name:  "limits",
		Usage: "[<zone> [<key>]] [--reset] [--json] " + adminclient.Usage,
		Short: "Shows and resets rate limits of a running gateway",
		Long: `
Asks the admin API of a running gateway for its rate limits.

Without arguments the zones are listed; with a zone, its top keys; with a
zone and a key, what is left of that key. --reset forgets what the key has used.
` + adminclient.Help,
		CobraFunc: func(cmd *cobra.Command) {
			cmd.Args = cobra.MaximumNArgs(2)
			adminclient.Flags(cmd)
			cmd.Flags().Bool("reset", false, "Forget what the key has used")
			cmd.Flags().Bool("json", false, "Print the answer of the admin API as it is")
			cmd.RunE = runLimits
		},
	})
}

func runLimits(cmd *cobra.Command, args []string) error {
	reset, _ := cmd.Flags().GetBool("reset")
	raw, _ := cmd.Flags().GetBool("json")
	if reset && len(args) != 2 {
		return errors.New("--reset: name the zone and the key to reset")
	}
	uri := adminPath
	if len(args) > 0 {
		uri += url.PathEscape(args[0])
	}
	if len(args) > 1 {
		uri += "?key=" + url.QueryEscape(args[1])
	}
	method := http.MethodGet
	if reset {
		method = http.MethodDelete
	}
	body, err := adminclient.Send(cmd.Flags(), method, uri, nil)
	if err != nil {
		return err
	}
	defer body.Close()
	out := cmd.OutOrStdout()
	switch {
	case reset:
		fmt.Fprintf(out, "%s: what %s has used is forgotten\n", args[0], args[1])
		return nil
	case raw:
		_, err = io.Copy(out, body)
		return err
	}
	return printLimits(out, body, len(args))
}

// printLimits writes the admin API's answer as a table.
func printLimits(out io.Writer, body io.Reader, args int) error {
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	defer func() { _ = w.Flush() }()
	dec := json.NewDecoder(body)
	switch args {
	case 0:
		var zones []zoneState
		if err := dec.Decode(&zones); err != nil {
			return err
		}
		fmt.Fprintln(w, "ZONE\tSTORE\tLIMITS")
		for _, z := range zones {
			for _, l := range z.Limits {
				fmt.Fprintf(w, "%s\t%s\t%s\n", z.Zone, z.Store, l)
			}
		}
	case 1:
		var zones []struct {
			Store string
			Keys  []topKey `json:"hottest"`
		}
		if err := dec.Decode(&zones); err != nil {
			return err
		}
		fmt.Fprintln(w, "KEY\tSTORE\tUNITS (ESTIMATE)")
		for _, z := range zones {
			for _, k := range z.Keys {
				fmt.Fprintf(w, "%q\t%s\t%d\n", k.Key, z.Store, k.Units)
			}
		}
	default:
		var states []keyState
		if err := dec.Decode(&states); err != nil {
			return err
		}
		fmt.Fprintln(w, "POLICY\tSTORE\tTIER\tLIMIT\tREMAINING\tMORE IN")
		for _, s := range states {
			for _, t := range s.Tiers {
				for _, l := range t.Limits {
					fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%d\t%.3gs\n", l.Policy, s.Store, t.Tier, l.Limit, l.Remaining, l.Reset)
				}
			}
		}
	}
	return nil
}
