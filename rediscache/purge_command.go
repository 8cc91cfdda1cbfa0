package rediscache

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pythopus/tentagate/internal/admin"
)

func init() {
	admin.Register(admin.Command{
		Name:  "purge",
		Usage: "--url <url> | --prefix <url> | --host <host> | --tag <tag> | --all [--soft]",
		Short: "Invalidates stored responses of a running gateway",
		Long: `
Tells a running gateway not to use stored responses any more. Gateways that share
a Redis share invalidations.

  --url     one URL with its query, in all variants and for all users;
            http and https are the same
  --prefix  all URLs with this prefix, such as https://example.com/shop/
  --host    all URLs of a host
  --tag     all responses with the tag; may be repeated
  --all     everything
  --soft    responses become stale, and may still be served while a new one is
            fetched, instead of unusable`,
		Examples: []string{
			"purge --url https://example.com/shop/cart?id=7", "purge --prefix https://example.com/shop/ --soft", "purge --tag product-7 --tag product-8",
		},
		Args: cobra.NoArgs,
		Flags: func(cmd *cobra.Command) {
			cmd.Flags().String("url", "", "URL to invalidate")
			cmd.Flags().String("prefix", "", "Prefix of the URLs to invalidate")
			cmd.Flags().String("host", "", "Host to invalidate")
			cmd.Flags().StringArray("tag", nil, "Tag to invalidate; may be repeated")
			cmd.Flags().Bool("all", false, "Invalidate everything")
			cmd.Flags().Bool("soft", false, "Make responses stale instead of unusable")
		},
		Run: runPurge,
	})
}

func runPurge(cmd *cobra.Command, _ []string) error {
	request, err := purgeRequestOf(cmd)
	if err != nil {
		return fmt.Errorf("what to purge: %w", err)
	}
	return admin.Do(cmd, http.MethodPost, purgeURI, request, printPurge)
}

// purgeRequestOf reads the flags. Mistakes are found here too, so that the error
// names the flags before anything is sent.
func purgeRequestOf(cmd *cobra.Command) (request purgeRequest, err error) {
	flags := cmd.Flags()
	texts := map[string]*string{"url": &request.URL, "prefix": &request.Prefix, "host": &request.Host}
	var given []string
	for _, name := range []string{"url", "prefix", "host", "tag", "all"} {
		if all, _ := flags.GetBool("all"); !flags.Changed(name) || name == "all" && !all {
			continue
		}
		given = append(given, "--"+name)
		if to, ok := texts[name]; ok {
			if *to, _ = flags.GetString(name); *to == "" {
				return request, fmt.Errorf("--%s is empty", name)
			}
		}
	}
	if len(given) != 1 {
		return request, fmt.Errorf("%s: exactly one of --url, --prefix, --host, --tag (which may be repeated) and --all must be given",
			cmp.Or(strings.Join(given, " and "), "nothing is named"))
	}
	request.Tags, _ = flags.GetStringArray("tag")
	if flags.Changed("tag") && (len(request.Tags) == 0 || slices.Contains(request.Tags, "")) {
		return request, errors.New("--tag is empty")
	}
	request.All, _ = flags.GetBool("all")
	request.Soft, _ = flags.GetBool("soft")
	_, err = request.scopes()
	return request, err
}

func printPurge(w io.Writer, result purgeResult) error {
	if !result.Purged {
		return errors.New("the gateway did not purge anything")
	}
	_, err := fmt.Fprintln(w, "purged"+admin.Reach(result.Shared))
	return err
}
