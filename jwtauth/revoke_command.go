package jwtauth

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"github.com/caddyserver/caddy/v2"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"

	"github.com/pythopus/tentagate/internal/adminclient"
)

func init() {
	caddycmd.RegisterCommand(caddycmd.Command{
		Name:  "revoke",
		Usage: "(--jti <jti> | --sub <subject> [--before <time>]) [--provider <name> | --issuer <iss>] [--ttl <duration>] [--undo] " + adminclient.Usage,
		Short: "Revokes tokens at a running gateway",
		Long: `
Tells a running gateway whose jwt_auth has a deny_list, through its admin API, to
accept tokens no more. Gateways that share a Redis tell each other.

  --jti       one token; needs --provider or --issuer
  --sub       all tokens of a subject that were issued before --before
  --before    a moment such as 2026-01-31T12:00:00Z; now if it is not given
  --provider  name of the provider whose tokens are meant; one that is not
              configured is an error
  --issuer    the issuer (iss) whose tokens are meant, exactly; one that is not
              accepted is an error
  --ttl       how long it lasts, such as 48h or 7d; longer than the tokens live
  --undo      takes a revocation back
` + adminclient.Help,
		CobraFunc: func(cmd *cobra.Command) {
			cmd.Flags().String("jti", "", "Token to revoke")
			cmd.Flags().String("sub", "", "Subject whose tokens to revoke")
			cmd.Flags().String("before", "", "Moment before which they were issued")
			cmd.Flags().String("provider", "", "Provider of the tokens")
			cmd.Flags().String("issuer", "", "Issuer of the tokens")
			cmd.Flags().String("ttl", "", "How long it lasts")
			cmd.Flags().Bool("undo", false, "Take a revocation back")
			adminclient.Flags(cmd)
			cmd.Args = cobra.NoArgs
			cmd.RunE = caddycmd.WrapCommandFuncForCobra(cmdRevoke)
		},
	})
}

func cmdRevoke(fl caddycmd.Flags) (int, error) {
	q := revocation{JTI: fl.String("jti"), Subject: fl.String("sub"), Provider: fl.String("provider"), Issuer: fl.String("issuer")}
	if text := fl.String("before"); text != "" {
		before, err := time.Parse(time.RFC3339, text)
		if err != nil {
			return caddy.ExitCodeFailedStartup, fmt.Errorf("--before: %q is not a moment such as 2026-01-31T12:00:00Z", text)
		}
		q.Before = &before
	}
	if text := fl.String("ttl"); text != "" {
		ttl, err := caddy.ParseDuration(text)
		if err != nil || ttl <= 0 {
			return caddy.ExitCodeFailedStartup, fmt.Errorf("--ttl: %q is not a duration such as 48h", text)
		}
		q.TTL = caddy.Duration(ttl)
	}
	// Checked here too: a mistake is told before anything is sent.
	if _, err := q.entry(time.Now(), 0); err != nil {
		return caddy.ExitCodeFailedStartup, err
	}
	method := http.MethodPost
	if fl.Bool("undo") {
		method = http.MethodDelete
	}
	result, err := sendRevocation(fl, method, &q)
	if err != nil {
		return caddy.ExitCodeFailedStartup, err
	}
	switch {
	case result.Restored:
		fmt.Println("restored", result.ID)
	case result.Shared == "pending":
		fmt.Println("revoked here; the other gateways will be told when Redis answers:", result.ID)
	default:
		fmt.Println("revoked", result.ID, "until", result.Expires.Format(time.RFC3339))
	}
	return caddy.ExitCodeSuccess, nil
}

// sendRevocation sends the request to the admin API that the flags name.
func sendRevocation(fl caddycmd.Flags, method string, q *revocation) (revocationResult, error) {
	var result revocationResult
	body, err := adminclient.Send(fl.FlagSet, method, revocationsURI, q)
	if err != nil {
		return result, err
	}
	defer body.Close()
	if err := json.NewDecoder(io.LimitReader(body, maxRevocationBody)).Decode(&result); err != nil {
		return result, fmt.Errorf("reading the gateway's answer: %w", err)
	}
	if !result.Restored && (!result.Revoked || result.Expires == nil) {
		return result, errors.New("the gateway did not do it")
	}
	return result, nil
}
