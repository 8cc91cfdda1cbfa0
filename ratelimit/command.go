package ratelimit

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"github.com/spf13/cobra"

	"github.com/pythopus/tentagate/internal/admin"
)

func init() {
	admin.Register(admin.Command{
		Name:  "limits",
		Usage: "[<zone> [<key>]] [--reset]",
		Short: "Shows and resets the rate limits of a running gateway",
		Long: `
Without arguments it lists the zones; with a zone, its top keys; with a zone and
a key, what is left for that key. --reset clears what the key has used.`,
		Examples: []string{"limits", "limits api", "limits api 203.0.113.7 --reset"},
		Args:     cobra.MaximumNArgs(2),
		Flags: func(cmd *cobra.Command) {
			cmd.Flags().Bool("reset", false, "Clear what the key has used")
		},
		Run: runLimits,
	})
}

func runLimits(cmd *cobra.Command, args []string) error {
	uri := adminPath
	if len(args) > 0 {
		uri += url.PathEscape(args[0])
	}
	if len(args) > 1 {
		uri += "?key=" + url.QueryEscape(args[1])
	}
	reset, _ := cmd.Flags().GetBool("reset")
	switch {
	case reset && len(args) != 2:
		return errors.New("--reset: name the zone and the key to reset")
	case reset:
		return admin.Do(cmd, http.MethodDelete, uri, nil, func(w io.Writer, _ struct{}) error {
			_, err := fmt.Fprintf(w, "cleared what %q has used in zone %s\n", args[1], args[0])
			return err
		})
	case len(args) == 0:
		return admin.Do(cmd, http.MethodGet, uri, nil, printZones)
	case len(args) == 1:
		return admin.Do(cmd, http.MethodGet, uri, nil, printTopKeys)
	default:
		return admin.Do(cmd, http.MethodGet, uri, nil, printKey)
	}
}

func printZones(w io.Writer, zones []zoneState) error {
	fmt.Fprintln(w, "ZONE\tSTORE\tLIMITS")
	for _, z := range zones {
		for _, l := range z.Limits {
			fmt.Fprintf(w, "%s\t%s\t%s\n", z.Zone, z.Store, l)
		}
	}
	return nil
}

func printTopKeys(w io.Writer, zones []zoneTopKeys) error {
	fmt.Fprintln(w, "KEY\tSTORE\tUNITS (ESTIMATE)")
	for _, z := range zones {
		for _, k := range z.Keys {
			fmt.Fprintf(w, "%q\t%s\t%d\n", k.Key, z.Store, k.Units)
		}
	}
	return nil
}

func printKey(w io.Writer, states []keyState) error {
	fmt.Fprintln(w, "POLICY\tSTORE\tTIER\tLIMIT\tREMAINING\tMORE IN")
	for _, s := range states {
		for _, t := range s.Tiers {
			for _, l := range t.Limits {
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%d\t%.3gs\n", l.Policy, s.Store, t.Tier, l.Limit, l.Remaining, l.Reset)
			}
		}
	}
	return nil
}
