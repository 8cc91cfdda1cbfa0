package rediscache

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/spf13/cobra"

	"github.com/caddyserver/caddy/v2"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"

	"github.com/pythopus/tentagate/internal/adminclient"
	"github.com/pythopus/tentagate/rediscache/internal/object"
)

func init() {
	caddycmd.RegisterCommand(caddycmd.Command{
		Name:  "purge",
		Usage: "--url <url> | --prefix <url> | --host <host> | --tag <tag> | --all [--soft] " + adminclient.Usage,
		Short: "Invalidates stored responses of a running gateway",
		Long: `
Tells a running gateway, through its admin API, to use stored responses no more.
Gateways that share a Redis tell each other.

  --url     one URL with its query, in all variants and for all users;
            http and https are the same
  --prefix  all URLs that begin so, such as https://example.com/shop/
  --host    all of a host
  --tag     all responses that carry the tag; may be given several times
  --all     everything
  --soft    responses become stale and may still serve while a new one is
            fetched, instead of being unusable
` + adminclient.Help,
		CobraFunc: func(cmd *cobra.Command) {
			cmd.Flags().String("url", "", "URL to invalidate")
			cmd.Flags().String("prefix", "", "Beginning of the URLs to invalidate")
			cmd.Flags().String("host", "", "Host to invalidate")
			cmd.Flags().StringArray("tag", nil, "Tag to invalidate")
			cmd.Flags().Bool("all", false, "Invalidate everything")
			cmd.Flags().Bool("soft", false, "Make responses stale instead of unusable")
			adminclient.Flags(cmd)
			cmd.Args = cobra.NoArgs
			cmd.RunE = caddycmd.WrapCommandFuncForCobra(cmdPurge)
		},
	})
}

func cmdPurge(fl caddycmd.Flags) (int, error) {
	request := purgeRequest{Scope: object.Scope{
		URL: fl.String("url"), Prefix: fl.String("prefix"), Host: fl.String("host"), All: fl.Bool("all"), Soft: fl.Bool("soft"),
	}}
	tags, err := fl.GetStringArray("tag")
	if err != nil {
		return caddy.ExitCodeFailedStartup, err
	}
	request.Tags = tags
	var given []string
	for _, name := range []string{"url", "prefix", "host", "tag", "all"} {
		if !fl.Changed(name) {
			continue
		}
		if given = append(given, "--"+name); name != "all" && name != "tag" && fl.String(name) == "" {
			return caddy.ExitCodeFailedStartup, fmt.Errorf("what to purge: --%s is empty", name)
		}
	}
	if len(given) != 1 {
		return caddy.ExitCodeFailedStartup, fmt.Errorf("what to purge: %s: exactly one of --url, --prefix, --host, --tag (which may be repeated) and --all must be given",
			cmp.Or(strings.Join(given, " and "), "nothing is named"))
	}
	// Checked here too: the error names the flags before anything is sent.
	if _, err := request.scopes(); err != nil {
		return caddy.ExitCodeFailedStartup, fmt.Errorf("what to purge: %w", err)
	}

	result, err := sendPurge(fl, request)
	if err != nil {
		return caddy.ExitCodeFailedStartup, err
	}
	switch result.Shared {
	case "yes":
		fmt.Println("purged, and the other gateways are told")
	case "pending":
		fmt.Println("purged here; the other gateways will be told when Redis answers")
	default:
		fmt.Println("purged")
	}
	return caddy.ExitCodeSuccess, nil
}

// sendPurge sends the request to the admin API that the flags name.
func sendPurge(fl caddycmd.Flags, request purgeRequest) (purgeResult, error) {
	var result purgeResult
	body, err := adminclient.Send(fl.FlagSet, http.MethodPost, purgeURI, request)
	if err != nil {
		return result, err
	}
	defer body.Close()
	if err := json.NewDecoder(io.LimitReader(body, maxPurgeBody)).Decode(&result); err != nil {
		return result, fmt.Errorf("reading the gateway's answer: %w", err)
	}
	if !result.Purged {
		return result, errors.New("the gateway did not purge")
	}
	return result, nil
}
