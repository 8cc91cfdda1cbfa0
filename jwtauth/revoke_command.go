package jwtauth

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"github.com/caddyserver/caddy/v2"

	"github.com/pythopus/tentagate/internal/admin"
)

func init() {
	admin.Register(admin.Command{
		Name:  "revoke",
		Usage: "(--jti <jti> | --sub <subject> [--before <time>]) [--provider <name> | --issuer <iss>] [--ttl <duration>] [--undo]",
		Short: "Revokes tokens at a running gateway",
		Long: `
Tells a running gateway whose jwt_auth has a deny_list to stop accepting tokens.
Gateways that share a Redis share revocations.

  --jti       one token; needs --provider or --issuer
  --sub       all tokens of a subject that were issued before --before
  --before    a time such as 2026-01-31T12:00:00Z (default: now)
  --provider  name of the provider that the tokens are for; must be configured
  --issuer    the issuer (iss) of the tokens, exactly; must be accepted
  --ttl       how long the revocation lasts, such as 48h or 7d; longer than the
              tokens live
  --undo      removes a revocation`,
		Examples: []string{
			"revoke --sub alice", "revoke --jti 5f3c --provider main --ttl 7d", "revoke --sub alice --undo",
		},
		Args: cobra.NoArgs,
		Flags: func(cmd *cobra.Command) {
			cmd.Flags().String("jti", "", "Token to revoke")
			cmd.Flags().String("sub", "", "Subject whose tokens to revoke")
			cmd.Flags().String("before", "", "Revoke tokens issued before this time")
			cmd.Flags().String("provider", "", "Provider of the tokens")
			cmd.Flags().String("issuer", "", "Issuer of the tokens")
			cmd.Flags().String("ttl", "", "How long the revocation lasts")
			cmd.Flags().Bool("undo", false, "Remove a revocation")
		},
		Run: runRevoke,
	})
}

func runRevoke(cmd *cobra.Command, _ []string) error {
	text := func(name string) string {
		value, _ := cmd.Flags().GetString(name)
		return value
	}
	q := revocation{JTI: text("jti"), Subject: text("sub"), Provider: text("provider"), Issuer: text("issuer")}
	if text := text("before"); text != "" {
		before, err := time.Parse(time.RFC3339, text)
		if err != nil {
			return fmt.Errorf("--before: %q is not a time such as 2026-01-31T12:00:00Z", text)
		}
		q.Before = &before
	}
	if text := text("ttl"); text != "" {
		ttl, err := caddy.ParseDuration(text)
		if err != nil || ttl <= 0 {
			return fmt.Errorf("--ttl: %q is not a duration such as 48h", text)
		}
		q.TTL = caddy.Duration(ttl)
	}
	if (q.JTI == "") == (q.Subject == "") {
		return errors.New("what to revoke: exactly one of --jti and --sub must be given")
	}
	// Checked here too, so that a mistake is reported before anything is sent.
	if _, err := q.entry(time.Now(), 0); err != nil {
		return err
	}
	method := http.MethodPost
	if undo, _ := cmd.Flags().GetBool("undo"); undo {
		method = http.MethodDelete
	}
	return admin.Do(cmd, method, revocationsURI, &q, printRevocation)
}

func printRevocation(w io.Writer, result revocationResult) error {
	switch {
	case result.Restored:
		fmt.Fprintf(w, "no longer revoked%s\nid: %s\n", admin.Reach(result.Shared), result.ID)
	case !result.Revoked || result.Expires == nil:
		return errors.New("the gateway did not revoke anything")
	default:
		fmt.Fprintf(w, "revoked until %s%s\nid: %s\n", result.Expires.Format(time.RFC3339), admin.Reach(result.Shared), result.ID)
	}
	return nil
}
