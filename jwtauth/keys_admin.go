package jwtauth

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/pythopus/tentagate/internal/admin"
	"github.com/pythopus/tentagate/internal/credentials"
)

// keysURI is the endpoint of the key sets.
const keysURI = "/tentagate/keys"

func init() {
	admin.RegisterStatus("keys", statusOfKeys, printKeys)
	admin.RegisterAPI("keys", admin.Endpoint{Pattern: keysURI, Serve: serveKeys, Operations: []admin.Operation{
		{Method: http.MethodGet, Summary: "The key sets of identity providers", Answer: []keysStatus{}},
		{
			Method: http.MethodPost, Summary: "Fetches key sets again, and waits for that", Query: map[string]string{"refresh": "The URL of a key set, or all. Required"},
			Answer: []keysStatus{}, Fails: map[int]string{http.StatusBadRequest: "refresh is missing", http.StatusNotFound: "There is no such key set"},
		},
	}})
	admin.Register(admin.Command{
		Name:  "keys",
		Usage: "[--refresh <url>|all]",
		Short: "Shows and refreshes the key sets of identity providers",
		Long: `
Lists the key sets (JWKS) that a running gateway fetches from identity providers.
--refresh fetches one of them, or all, at once; the result is in the list.`,
		Examples: []string{"keys", "keys --refresh all", "keys --refresh https://login.example.com/.well-known/jwks.json"},
		Args:     cobra.NoArgs,
		Flags: func(cmd *cobra.Command) {
			cmd.Flags().String("refresh", "", "URL of the key set to fetch again, or all")
		},
		Run: runKeys,
	})
}

func runKeys(cmd *cobra.Command, _ []string) error {
	name, _ := cmd.Flags().GetString("refresh")
	switch {
	case !cmd.Flags().Changed("refresh"):
		return admin.Do(cmd, http.MethodGet, keysURI, nil, printKeys)
	case name == "":
		return errors.New("--refresh: it is empty: name the URL of a key set, or all")
	}
	return admin.Do(cmd, http.MethodPost, keysURI+"?refresh="+url.QueryEscape(name), nil, printKeys)
}

// keysStatus is the state of a key set from a URL.
type keysStatus struct {
	// URL of the key set or, with Discovery, of the issuer, without credentials.
	URL       string `json:"url"`
	Discovery bool   `json:"discovery,omitempty"`
	// Keys is the number of keys in use. Without any, requests with a token get 503.
	Keys int `json:"keys"`
	// Fetched is when the keys were last known to be current.
	Fetched *time.Time `json:"fetched,omitempty"`
	// Next is the number of seconds until they are fetched again.
	Next float64 `json:"next_seconds"`
	// Error is that of the last fetch.
	Error string `json:"error,omitempty"`
}

func statusOfKeys() []keysStatus {
	list := []keysStatus{}
	for _, r := range remotes.Values() {
		s := keysStatus{URL: credentials.Shown(r.URL), Discovery: r.Discovery, Keys: r.Current().Len(), Next: r.Next().Round(time.Millisecond).Seconds()}
		if age := r.Age(); age > 0 {
			at := time.Now().Add(-age).UTC().Round(time.Millisecond)
			s.Fetched = &at
		}
		if err := r.Failure(); err != nil {
			s.Error = err.Error()
		}
		list = append(list, s)
	}
	slices.SortFunc(list, func(a, b keysStatus) int { return cmp.Compare(a.URL, b.URL) })
	return list
}

func printKeys(w io.Writer, list []keysStatus) error {
	fmt.Fprintln(w, "URL\tKEYS\tFETCHED\tNEXT IN\tERROR")
	for _, s := range list {
		fetched := "never"
		if s.Fetched != nil {
			fetched = s.Fetched.Format(time.RFC3339)
		}
		fmt.Fprintf(w, "%s\t%d\t%s\t%s\t%s\n", s.URL, s.Keys, fetched, admin.Seconds(s.Next), cmp.Or(s.Error, "-"))
	}
	return nil
}

// serveKeys shows the key sets, and fetches them again:
//
//	GET  /tentagate/keys                    their state
//	POST /tentagate/keys?refresh=<url|all>  fetches them, and shows their state
func serveKeys(w http.ResponseWriter, r *http.Request) error {
	if r.Method == http.MethodPost {
		query := r.URL.Query()
		query.Set("refresh", credentials.Shown(query.Get("refresh")))
		r.URL.RawQuery = query.Encode()
		var list []admin.Refreshable
		for _, set := range remotes.Values() {
			// The answer to the request has the error.
			list = append(list, admin.Refreshable{Name: credentials.Shown(set.URL), Refresh: func(ctx context.Context) { _ = set.Now(ctx) }})
		}
		if err := admin.Refresh(r, "key set", list); err != nil {
			return err
		}
	}
	return admin.JSON(w, statusOfKeys())
}
