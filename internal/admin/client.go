// Package admin is what the features' endpoints of Caddy's admin API have in
// common, and the commands that use them at a running gateway: answers and errors
// on one side, flags, the address and the output on the other.
package admin

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"

	"github.com/spf13/pflag"

	"github.com/caddyserver/caddy/v2"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"

	"github.com/pythopus/tentagate/internal/dotenv"
)

// addressVariable is the variable with which `tentagate gateway` is told where the admin
// API is to listen.
const addressVariable = "TENTAGATE_ADMIN"

// off is its value for nowhere.
const off = "off"

// address returns the address of the admin API: that of the flags, that of the variable,
// also in the environment file that the gateway has, that of the Caddyfile in this
// directory, the socket of the one gateway that has one by default, or Caddy's default. A
// Caddyfile that only happens to be in this directory and cannot be read is not an error:
// it may need an environment that the command does not have.
func address(flags *pflag.FlagSet) (string, error) {
	given, _ := flags.GetString("address")
	file, _ := flags.GetString("config")
	adapter, _ := flags.GetString("adapter")
	envFile, _ := flags.GetString("env-file")
	if scheme, rest, ok := strings.Cut(given, "://"); ok {
		return "", fmt.Errorf("--address %q: leave the %s:// out, as in %s", given, scheme, strings.TrimSuffix(rest, "/"))
	}
	if given == "" && file == "" && adapter == "" {
		variable, err := dotenv.Lookup(envFile, addressVariable)
		if err != nil {
			return "", err
		}
		if variable != off {
			given = variable
		}
	}
	if given != "" {
		return given, nil
	}
	if envFile != "" { // the configuration may use its variables
		if err := dotenv.Load(envFile); err != nil {
			return "", err
		}
	}
	config, used, err := load(file, adapter)
	if err != nil {
		return "", fmt.Errorf("finding the admin API: %w; give its address with --address", err)
	}
	if used == "" {
		return socket()
	}
	found, err := caddycmd.DetermineAdminAPIAddress("", config, used, adapter)
	if err != nil {
		return "", fmt.Errorf("finding the admin API: %w", err)
	}
	return found, nil
}

// socket returns the address of the gateway that has a socket by default.
func socket() (string, error) {
	found := sockets()
	for i, path := range found {
		found[i] = "unix/" + path
	}
	switch len(found) {
	case 0:
		return caddy.DefaultAdminListen, nil
	case 1:
		return found[0], nil
	}
	return "", fmt.Errorf("several gateways run here: choose one by --address: %s", strings.Join(found, ", "))
}

func load(file, adapter string) (config []byte, used string, err error) {
	config, used, _, err = caddycmd.LoadConfig(file, adapter)
	if err != nil && file == "" && adapter == "" {
		fmt.Fprintf(os.Stderr, "Ignoring the Caddyfile in this directory: %v\n", err)
		return nil, "", nil
	}
	return config, used, err
}

// send asks the admin API that the flags name, with body as JSON unless it is nil,
// and returns the body of the answer, which the caller closes. An error status is
// returned as the error that the gateway sent with it.
func send(flags *pflag.FlagSet, method, uri string, body any) (io.ReadCloser, error) {
	addr, err := address(flags)
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
	resp, err := caddycmd.AdminAPIRequest(addr, method, uri, http.Header{}, reader)
	if err != nil {
		return nil, explain(addr, err)
	}
	return resp.Body, nil
}

// Check returns an error if the admin API that the flags name does not have the endpoint.
func Check(flags *pflag.FlagSet, uri string) error {
	stream, err := send(flags, http.MethodGet, uri, nil)
	if err != nil {
		return err
	}
	return stream.Close()
}

// explain turns Caddy's error into what a person needs: the error that the gateway
// sent, or what to do when nothing answers.
func explain(addr string, err error) error {
	_, answer, ok := strings.Cut(err.Error(), "caddy responded with error: HTTP ")
	if !ok {
		return fmt.Errorf("no gateway answers at %s; give the address of its admin API with --address, or its configuration with --config: %w", addr, err)
	}
	status, body, _ := strings.Cut(answer, ": ")
	// Caddy's own errors are `{"error": "…"}`.
	var message struct{ Detail, Error string }
	if json.Unmarshal([]byte(body), &message) == nil && message.Detail+message.Error != "" {
		return fmt.Errorf("the gateway at %s: %s", addr, cmp.Or(message.Detail, message.Error))
	}
	return fmt.Errorf("the gateway at %s answers %s: %s", addr, status, strings.TrimSpace(body))
}
