package caddyfile

import (
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/pythopus/tentagate/internal/dotenv"
)

// The health check finds the gateway that reads where it listens from an environment
// file, as the gateway does.
func TestHealthcheckReadsTheEnvironmentFile(t *testing.T) {
	gateway := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/health" {
			w.WriteHeader(http.StatusNotFound)
		}
	}))
	defer gateway.Close()
	t.Chdir(t.TempDir())
	for _, file := range []string{dotenv.Default, "production.env"} {
		t.Setenv("SERVER_NAME", "") // restored at the end
		if err := os.Unsetenv("SERVER_NAME"); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte("SERVER_NAME="+gateway.URL+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		c := healthCommand{timeout: time.Minute}
		if file != dotenv.Default {
			c.envFile = file
		}
		if err := c.run(t.Context()); err != nil {
			t.Errorf("%s: %v", file, err)
		}
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
	}
	c := healthCommand{timeout: time.Minute, envFile: "none.env"}
	if err := c.run(t.Context()); err == nil || !strings.Contains(err.Error(), "none.env") {
		t.Errorf("a file that is not there: %v", err)
	}
	c = healthCommand{timeout: time.Minute, envFile: "none.env", url: gateway.URL + "/health"}
	if err := c.run(t.Context()); err != nil {
		t.Errorf("with a URL no file is needed: %v", err)
	}
}

// A .env in the working directory may be that of another program: what cannot be read is
// left out, and only the name of the server is taken.
func TestHealthcheckBesideAnotherEnvironmentFile(t *testing.T) {
	t.Chdir(t.TempDir())
	for _, name := range []string{"SERVER_NAME", "XDG_DATA_HOME"} {
		t.Setenv(name, "") // restored at the end
		if err := os.Unsetenv(name); err != nil {
			t.Fatal(err)
		}
	}
	address := func(c healthCommand) string {
		t.Helper()
		url, err := c.address()
		if err != nil {
			t.Fatal(err)
		}
		if _, set := os.LookupEnv("XDG_DATA_HOME"); set {
			t.Error("another variable is taken")
		}
		return url
	}
	for text, want := range map[string]string{
		"if [ -n x ]; then":                   defaultHealthURL,
		"XDG_DATA_HOME=/x":                    defaultHealthURL,
		"XDG_DATA_HOME=/x\nSERVER_NAME=:8080": "http://127.0.0.1:8080/health",
	} {
		if err := os.WriteFile(dotenv.Default, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := address(healthCommand{}); got != want {
			t.Errorf("%s: %s, want %s", text, got, want)
		}
	}
	t.Setenv("SERVER_NAME", ":8081")
	if got, want := address(healthCommand{}), "http://127.0.0.1:8081/health"; got != want {
		t.Errorf("of the environment: %s, want %s", got, want)
	}
	if err := os.Remove(dotenv.Default); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(dotenv.Default, 0o700); err != nil {
		t.Fatal(err)
	}
	address(healthCommand{})
	c := healthCommand{envFile: dotenv.Default}
	if _, err := c.address(); err == nil || !strings.Contains(err.Error(), dotenv.Default) {
		t.Errorf("a directory that is named: %v", err)
	}
}
