package resp

import (
	"strconv"
	"strings"
	"testing"
)

// check feeds the text in pieces of one size.
func check(text string, piece int) error {
	var c Checker
	for len(text) > 0 {
		n := min(piece, len(text))
		if err := c.Check([]byte(text[:n])); err != nil {
			return err
		}
		text = text[n:]
	}
	return nil
}

func TestReplies(t *testing.T) {
	for _, good := range []string{
		"+OK\r\n", "+\r\n", "-ERR no\r\n", ":-12\r\n", "$5\r\nhello\r\n", "$0\r\n\r\n", "$-1\r\n", "*-1\r\n", "*0\r\n",
		"*2\r\n$1\r\na\r\n*1\r\n:1\r\n", "%2\r\n+a\r\n:1\r\n+b\r\n%1\r\n+c\r\n_\r\n", "~1\r\n#t\r\n", ",1.5\r\n", "(12345678901234567890\r\n",
		"!3\r\nERR\r\n", "=7\r\ntxt:abc\r\n", "|1\r\n+ttl\r\n:5\r\n+OK\r\n", "*1\r\n|1\r\n+a\r\n*1\r\n:1\r\n:2\r\n", "|0\r\n+OK\r\n",
		">3\r\n+message\r\n$1\r\na\r\n$4\r\n\r\n$9\r\n", // what a string holds is no reply
		"$" + strconv.Itoa(maxBulk) + "\r\n",
		strings.Repeat("*1\r\n", maxDepth) + ":1\r\n",
		"-" + strings.Repeat("e", maxLine-3) + "\r\n",
	} {
		for _, piece := range []int{1, 2, 3, 1 << 20} {
			if err := check(good+"+OK\r\n*1\r\n:1\r\n"+good, piece); err != nil {
				t.Errorf("%.60q in pieces of %d: %v", good, piece, err)
			}
		}
	}
	for bad, want := range map[string]string{
		"$" + strconv.Itoa(maxBulk+1) + "\r\n": "announces a string",
		"$9223372036854775807\r\n":             "no number",
		"!4294967296\r\n":                      "announces a string",
		"*2147483647\r\n":                      "elements",
		"%1000000\r\n":                         "elements",
		strings.Repeat("|0\r\n", 1<<11):        "elements",
		">9999999999\r\n":                      "elements",
		"*3\r\n*1000000\r\n" + strings.Repeat("_\r\n", 1000000) + "*1000000\r\n": "elements",
		strings.Repeat("*2\r\n", maxDepth+1):                                     "nested",
		"$-2\r\n":                                                                "no number",
		"|-1\r\n":                                                                "no number",
		"$\r\n":                                                                  "no number",
		"*?\r\n":                                                                 "no number",
		"$1\r2\r\n":                                                              "no number",
		"$--1\r\n":                                                               "no number",
		"\r\n":                                                                   "CRLF",
		"\n":                                                                     "CRLF",
		"+OK\n":                                                                  "CRLF",
		"HTTP/1.1 400 Bad Request\r\n":                                           "no type",
		strings.Repeat("x", maxLine+1):                                           "longer",
		"*3\r\n" + strings.Repeat("$"+strconv.Itoa(maxBulk)+"\r\n"+strings.Repeat("x", maxBulk)+"\r\n", 2) + "$" + strconv.Itoa(maxBulk) + "\r\n": "larger",
	} {
		for _, piece := range []int{1, 1 << 20} {
			if piece == 1 && len(bad) > 1<<20 {
				continue
			}
			if err := check(bad, piece); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%.60q in pieces of %d: got %v, want %q", bad, piece, err, want)
			}
		}
	}
}

// The bounds are those of one reply.
func TestBoundsOfOneReply(t *testing.T) {
	var c Checker
	reply := []byte("*1\r\n$" + strconv.Itoa(maxBulk) + "\r\n" + strings.Repeat("x", maxBulk) + "\r\n")
	for i := range 5 {
		if err := c.Check(reply); err != nil {
			t.Fatalf("reply %d: %v", i, err)
		}
	}
}

func FuzzCheck(f *testing.F) {
	f.Add([]byte("*2\r\n$1\r\na\r\n%1\r\n+a\r\n|1\r\n+k\r\n:1\r\n:1\r\n"), 3)
	f.Add([]byte("$-1\r\n-ERR\r\n=5\r\ntxt:a\r\n"), 1)
	f.Fuzz(func(t *testing.T, text []byte, at int) {
		var whole, parts Checker
		at = max(0, min(at, len(text)))
		err := whole.Check(text)
		err2 := parts.Check(text[:at])
		if err2 == nil {
			err2 = parts.Check(text[at:])
		}
		if (err == nil) != (err2 == nil) {
			t.Errorf("whole: %v, in two parts at %d: %v", err, at, err2)
		}
		if err == nil && whole != parts {
			t.Errorf("another state in two parts at %d", at)
		}
	})
}
