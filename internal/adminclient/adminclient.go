// Package adminclient is what the commands that talk to a running gateway have
// in common: their flags, how they find its admin API, and how they tell what
// went wrong.
package adminclient

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
)

// Usage is the part of a command's usage that is about the flags.
const Usage = "[--address <interface>] [--config <path> [--adapter <name>]]"

// Help is the part of a command's help that is about the flags.
const Help = `
The admin API is found as by the reload command: at --address, or where the
configuration says that --config names, or the Caddyfile in this directory, or
at localhost:2019. An address may be a Unix socket: unix//run/caddy.sock.`

// Flags adds the flags by which the admin API is found.
func Flags(cmd *cobra.Command) {
	cmd.Flags().String("address", "", "The address of the admin API, such as localhost:2019 or unix//run/caddy.sock")
	cmd.Flags().StringP("config", "c", "", "Configuration file to read the address from")
	cmd.Flags().StringP("adapter", "a", "", "Name of config adapter to apply")
}

// Address returns the address of the admin API. A Caddyfile that only happens to
// be in this directory and cannot be read is no error: it may need an environment
// that the command does not have.
func Address(flags *pflag.FlagSet) (string, error) {
	address, _ := flags.GetString("address") // a command without the flag has no value
	file, _ := flags.GetString("config")
	adapter, _ := flags.GetString("adapter")
	var config []byte
	if scheme, rest, ok := strings.Cut(address, "://"); ok {
		return "", fmt.Errorf("--address %q: leave the %s:// out, as in %s", address, scheme, strings.TrimSuffix(rest, "/"))
	}
	if address == "" {
		var err error
		config, file, err = load(file, adapter)
		if err != nil {
			return "", fmt.Errorf("finding the admin API: %w; give its address with --address", err)
		}
	}
	found, err := caddycmd.DetermineAdminAPIAddress(address, config, file, adapter)
	if err != nil {
		return "", fmt.Errorf("finding the admin API: %w", err)
	}
	return found, nil
}

func load(file, adapter string) (config []byte, used string, err error) {
	config, used, _, err = caddycmd.LoadConfig(file, adapter)
	if err != nil && file == "" && adapter == "" {
		fmt.Fprintf(os.Stderr, "the Caddyfile in this directory is not heeded: %v\n", err)
		return nil, "", nil
	}
	return config, used, err
}

// Send asks the admin API that the flags name, with body as JSON unless it is
// nil, and returns the answer, which the caller closes. An answer that is an
// error is returned as the text of it.
func Send(flags *pflag.FlagSet, method, uri string, body any) (io.ReadCloser, error) {
	address, err := Address(flags)
	if err != nil {
		return nil, err
	}
	var reader io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		reader = bytes.NewReader(text)
	}
	resp, err := caddycmd.AdminAPIRequest(address, method, uri, http.Header{}, reader)
	if err != nil {
		return nil, explain(address, err)
	}
	return resp.Body, nil
}

// explain makes of Caddy's error what a person needs: the text of the gateway's
// answer, or what to do where nobody answers.
func explain(address string, err error) error {
	text := err.Error()
	if _, answer, ok := strings.Cut(text, "caddy responded with error: HTTP "); ok {
		status, body, _ := strings.Cut(answer, ": ")
		var message struct{ Error string }
		if json.Unmarshal([]byte(body), &message) == nil && message.Error != "" {
			return fmt.Errorf("the gateway at %s: %s", address, message.Error)
		}
		return fmt.Errorf("the gateway at %s answers %s: %s", address, status, strings.TrimSpace(body))
	}
	return fmt.Errorf("no gateway answers at %s; name its admin API with --address or its configuration with --config: %w", address, err)
}

// Unknown says that there is no thing of that name, and which there are.
func Unknown(kind, name string, known []string) error {
	if len(known) == 0 {
		return fmt.Errorf("there is no %s %q: no %s is in use", kind, name, kind)
	}
	return fmt.Errorf("there is no %s %q: there are %s", kind, name, strings.Join(known, ", "))
}
