// Command testsum reads the output of `go test -json`, prints what failed and
// what was skipped, and ends with the totals. It fails if a test failed, or was
// skipped without standing in the list of accepted skips.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"strings"
)

type event struct {
	Action, Package, Test, Output string
	Elapsed                       float64
	FailedBuild                   string
}

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: testsum ACCEPTED-SKIPS < output of go test -json")
		os.Exit(2)
	}
	accepted, err := os.ReadFile(os.Args[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	output := map[string][]string{}
	var passed, failed, skipped, refused int
	in := bufio.NewScanner(os.Stdin)
	in.Buffer(make([]byte, 1<<20), 16<<20)
	for in.Scan() {
		var e event
		if json.Unmarshal(in.Bytes(), &e) != nil {
			fmt.Println(in.Text())
			continue
		}
		key := e.Package + " " + e.Test
		switch e.Action {
		case "build-output":
			fmt.Print(e.Output)
		case "output":
			// Of a long log the end says most.
			if output[key] = append(output[key], e.Output); len(output[key]) > 400 {
				output[key] = output[key][100:]
			}
		case "pass":
			if e.Test != "" {
				passed++
			} else {
				fmt.Printf("ok    %s (%.1fs)\n", e.Package, e.Elapsed)
			}
			delete(output, key)
		case "skip":
			if e.Test == "" {
				continue
			}
			skipped++
			verdict := "accepted"
			if !listed(string(accepted), key) {
				verdict = "NOT ACCEPTED"
				refused++
			}
			fmt.Printf("skip  %s: %s\n%s", key, verdict, strings.Join(output[key], ""))
		case "fail":
			if e.Test != "" {
				failed++
			} else if e.FailedBuild != "" || len(output[key]) > 0 {
				failed++ // a package that did not build, or that ended outside of a test
			}
			fmt.Printf("FAIL  %s\n%s", key, strings.Join(output[key], ""))
		}
	}
	fmt.Printf("%d passed, %d failed, %d skipped\n", passed, failed, skipped)
	if failed > 0 || refused > 0 || passed == 0 || in.Err() != nil {
		os.Exit(1)
	}
}

// listed reports whether a line of the list is the package and test.
func listed(list, key string) bool {
	for line := range strings.SplitSeq(list, "\n") {
		line, _, _ = strings.Cut(line, "#")
		if strings.TrimSpace(line) == key {
			return true
		}
	}
	return false
}
