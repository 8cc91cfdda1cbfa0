package caddyfile

import (
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"
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
	for _, file := range []string{defaultEnvFile, "production.env"} {
		t.Setenv("SERVER_NAME", "") // restored at the end
		if err := os.Unsetenv("SERVER_NAME"); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte("SERVER_NAME="+gateway.URL+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		c := healthCommand{timeout: time.Minute}
		if file != defaultEnvFile {
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
