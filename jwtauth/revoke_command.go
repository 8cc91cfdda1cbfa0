package jwtauth

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"github.com/caddyserver/caddy/v2"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
)

func init() {
	caddycmd.RegisterCommand(caddycmd.Command{
		Name:  "revoke",
		Usage: "(--jti <jti> | --sub <subject> [--before <time>]) [--provider <name> | --issuer <iss>] [--ttl <duration>] [--undo] [--address <interface>] [--config <path> [--adapter <name>]]",
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

The admin API is found as by the reload command: at --address, or where the
given configuration says, or at localhost:2019.`,
		CobraFunc: func(cmd *cobra.Command) {
			cmd.Flags().String("jti", "", "Token to revoke")
			cmd.Flags().String("sub", "", "Subject whose tokens to revoke")
			cmd.Flags().String("before", "", "Moment before which they were issued")
			cmd.Flags().String("provider", "", "Provider of the tokens")
			cmd.Flags().String("issuer", "", "Issuer of the tokens")
			cmd.Flags().String("ttl", "", "How long it lasts")
			cmd.Flags().Bool("undo", false, "Take a revocation back")
			cmd.Flags().String("address", "", "The address of the admin API")
			cmd.Flags().StringP("config", "c", "", "Configuration file to read the address from")
			cmd.Flags().StringP("adapter", "a", "", "Name of config adapter to apply")
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
	var config []byte
	var err error
	if file := fl.String("config"); file != "" {
		if config, _, _, err = caddycmd.LoadConfig(file, fl.String("adapter")); err != nil {
			return caddy.ExitCodeFailedStartup, err
		}
	}
	address, err := caddycmd.DetermineAdminAPIAddress(fl.String("address"), config, fl.String("config"), fl.String("adapter"))
	if err != nil {
		return caddy.ExitCodeFailedStartup, fmt.Errorf("finding the admin API: %w", err)
	}
	method := http.MethodPost
	if fl.Bool("undo") {
		method = http.MethodDelete
	}
	result, err := sendRevocation(address, method, &q)
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

// sendRevocation sends the request to the admin API at the address.
func sendRevocation(address, method string, q *revocation) (revocationResult, error) {
	var result revocationResult
	body, err := json.Marshal(q)
	if err != nil {
		return result, err
	}
	resp, err := caddycmd.AdminAPIRequest(address, method, revocationsURI, http.Header{"Content-Type": {"application/json"}}, bytes.NewReader(body))
	if err != nil {
		return result, fmt.Errorf("asking the gateway at %s: %w", address, err)
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxRevocationBody)).Decode(&result); err != nil {
		return result, fmt.Errorf("reading the gateway's answer: %w", err)
	}
	if !result.Restored && (!result.Revoked || result.Expires == nil) {
		return result, fmt.Errorf("the gateway at %s did not do it", address)
	}
	return result, nil
}
