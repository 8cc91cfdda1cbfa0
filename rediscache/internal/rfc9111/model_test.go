package rfc9111

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// The model is written from the text of RFC 9111 (and 5861, 8246, 9213), in
// terms of what was meant: it never reads the text of a field. A random exchange
// is made as a list of meanings, which are then written down in one of the many
// ways in which that can be done.

// word is a directive as it was meant. seconds is -1 for one without a number,
// -2 for one whose number is nonsense.
type word struct {
	name    string
	seconds int64
	fields  []string
}

func (w word) written(r *rand.Rand, dictionary bool) string {
	name := w.name
	if !dictionary {
		b := []byte(name)
		for i := range b {
			if r.IntN(6) == 0 {
				b[i] = strings.ToUpper(string(b[i]))[0]
			}
		}
		name = string(b)
	}
	switch {
	case w.seconds >= 0:
		n := strconv.FormatInt(w.seconds, 10)
		if !dictionary {
			switch r.IntN(5) {
			case 0:
				n = `"` + n + `"`
			case 1:
				n = "00" + n
			}
		}
		return name + "=" + n
	case w.seconds == -2:
		return name + "=" + []string{"x", "-1", "1.5", `""`, `"1 "`, "1s"}[r.IntN(6)]
	case w.fields != nil:
		return name + `="` + strings.Join(w.fields, []string{",", ", ", " , "}[r.IntN(3)]) + `"`
	}
	return name
}

// written writes directives down in one or several field lines.
func written(r *rand.Rand, words []word) []string {
	var lines []string
	line := ""
	for i, w := range words {
		if i > 0 {
			if r.IntN(4) == 0 {
				lines, line = append(lines, line), ""
			} else {
				line += []string{",", ", ", " ,\t", ",,", ", ,"}[r.IntN(5)]
			}
		}
		line += w.written(r, false)
	}
	return append(lines, line)
}

type moment struct {
	given, valid bool
	at           time.Time
}

func (m moment) put(r *rand.Rand, h http.Header, name string) {
	switch {
	case !m.given:
	case !m.valid:
		h[name] = []string{[]string{"0", "-1", "", "yesterday", m.at.Format(time.RFC3339), m.at.Format("Mon, 02 Jan 2006 15:04:05 MST+1"), m.at.Format("Mon, 2 Jan 2006 15:04:05") + " PST"}[r.IntN(7)]}
	default:
		h[name] = []string{m.at.Format([]string{http.TimeFormat, time.ANSIC, "Monday, 02-Jan-06 15:04:05 GMT"}[r.IntN(3)])}
	}
}

// exchange is what was meant.
type exchange struct {
	method         string
	status         int
	authorized     bool
	ranged         bool
	words, cdn     []word
	cdnBroken      bool
	date, expires  moment
	modified       moment
	age            int64 // -1 not given, -2 nonsense
	etag, varyStar bool
	delay          int64
	ttl            int64
	heuristic      bool
	received       time.Time
}

func oneOf[T any](r *rand.Rand, list ...T) T { return list[r.IntN(len(list))] }

func randomSeconds(r *rand.Rand) int64 {
	return oneOf(r, 0, 1, 5, 10, 60, 3600, 1<<31, 1<<40, int64(r.IntN(100)))
}

func randomWords(r *rand.Rand, likely bool) []word {
	var words []word
	n := r.IntN(4)
	if likely {
		words = append(words, word{name: "max-age", seconds: randomSeconds(r)})
	}
	for range n {
		switch name := oneOf(r, "max-age", "s-maxage", "no-store", "no-cache", "private", "public", "must-revalidate", "proxy-revalidate",
			"must-understand", "immutable", "stale-while-revalidate", "stale-if-error", "x-unknown"); name {
		case "max-age", "s-maxage", "stale-while-revalidate", "stale-if-error":
			w := word{name: name, seconds: randomSeconds(r)}
			if r.IntN(8) == 0 {
				w.seconds = -2
			}
			words = append(words, w)
		case "no-cache", "private":
			w := word{name: name, seconds: -1}
			if r.IntN(2) == 0 {
				w.fields = [][]string{{"x-a"}, {"X-B", "set-cookie"}}[r.IntN(2)]
			}
			words = append(words, w)
		default:
			words = append(words, word{name: name, seconds: -1})
		}
	}
	return words
}

func randomMoment(r *rand.Rand, around time.Time, before, after int) moment {
	return moment{given: r.IntN(3) > 0, valid: r.IntN(6) > 0, at: around.Add(time.Duration(r.IntN(before+after+1)-before) * time.Second)}
}

func randomExchange(r *rand.Rand) *exchange {
	received := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC).Add(time.Duration(r.IntN(1e6)) * time.Second)
	x := &exchange{
		method: oneOf(r, "GET", "GET", "GET", "GET", "POST", "PUT", "HEAD"),
		status: oneOf(r, 200, 200, 200, 203, 204, 206, 301, 302, 304, 404, 410, 418, 500, 503, 599),
		words:  randomWords(r, r.IntN(2) == 0), authorized: r.IntN(4) == 0, ranged: r.IntN(4) == 0,
		date: randomMoment(r, received, 100, 20), expires: randomMoment(r, received, 50, 4000), modified: randomMoment(r, received, 100000, 10),
		age: oneOf(r, -1, -1, -2, 0, 5, randomSeconds(r)), etag: r.IntN(2) == 0, varyStar: r.IntN(12) == 0,
		delay: int64(r.IntN(4)), received: received,
	}
	if r.IntN(3) == 0 {
		x.cdn, x.cdnBroken = randomWords(r, true), r.IntN(4) == 0
		// In a dictionary a name that is repeated replaces what was said before;
		// that is the reader's, and not looked at here. Nonsense has a type of its
		// own there.
		seen := map[string]bool{}
		x.cdn = slices.DeleteFunc(x.cdn, func(w word) bool {
			was := seen[w.name]
			seen[w.name] = true
			return was || w.seconds == -2 || w.seconds > 999_999_999_999_999
		})
	}
	if r.IntN(4) == 0 {
		x.ttl = 30
	}
	x.heuristic = r.IntN(3) == 0
	return x
}

func (x *exchange) header(r *rand.Rand) http.Header {
	h := http.Header{"X-A": {"1"}, "X-B": {"2"}, "Content-Type": {"text/plain"}}
	if len(x.words) > 0 {
		h["Cache-Control"] = written(r, x.words)
	}
	if x.cdn != nil {
		var members []string
		for _, w := range x.cdn {
			members = append(members, w.written(r, true))
		}
		h["Cdn-Cache-Control"] = []string{strings.Join(members, ", ")}
		if x.cdnBroken {
			h["Cdn-Cache-Control"][0] += oneOf(r, " ,", ", max-age=\"", "; ;", ", =5", ", MAX-AGE=5")
		}
	}
	x.date.put(r, h, "Date")
	x.expires.put(r, h, "Expires")
	x.modified.put(r, h, "Last-Modified")
	switch x.age {
	case -1:
	case -2:
		h["Age"] = []string{oneOf(r, "x", "-5", "1.5", `"7"`, "")}
	default:
		h["Age"] = []string{strconv.FormatInt(x.age, 10)}
		if r.IntN(5) == 0 {
			h["Age"] = []string{h["Age"][0] + ", 99999"}
		}
	}
	if x.etag {
		h["Etag"] = []string{oneOf(r, `"a"`, `W/"a"`)}
	}
	if x.varyStar {
		h["Vary"] = [][]string{{"*"}, {"Accept, *"}, {"Accept", " *"}}[r.IntN(3)]
	}
	return h
}

// verdict is what the model says.
type verdict struct {
	mustNot, mustNotShare bool // store it; share it
	explicit              bool
	lifetime, age         int64
	revalidate, noCache   bool
	swr, sie              int64
	omit                  []string
}

const top = 1 << 31 // RFC 9111 §1.2.2

func (x *exchange) model() verdict {
	var v verdict
	words, targeted := x.words, false
	if len(x.cdn) > 0 && !x.cdnBroken {
		words, targeted = x.cdn, true // RFC 9213 §2.2
	}
	has := func(names ...string) bool {
		return slices.ContainsFunc(words, func(w word) bool { return slices.Contains(names, w.name) })
	}
	// Of several numbers the lowest; nonsense is stale.
	number := func(name string) (n int64, given bool) {
		for _, w := range words {
			if w.name == name {
				if s := min(max(w.seconds, 0), top); !given || s < n {
					n = s
				}
				given = true
			}
		}
		return n, given
	}
	fields := func(name string) (whole bool) {
		for _, w := range words {
			if w.name == name {
				if w.fields == nil {
					whole = true
				}
				for _, f := range w.fields {
					v.omit = append(v.omit, http.CanonicalHeaderKey(f))
				}
			}
		}
		return whole
	}

	understood := !slices.Contains([]int{418, 599}, x.status)
	switch { // §3
	case x.method != "GET" && x.method != "POST", x.status == 304, x.status == 206 && !x.ranged:
		v.mustNot = true
	case has("must-understand") && !understood: // §5.2.2.3
		v.mustNot = true
	case has("no-store") && !has("must-understand"): // §5.2.2.5
		v.mustNot = true
	case x.varyStar: // §4.1: nothing would ever match
		v.mustNot = true
	}
	v.noCache = fields("no-cache")
	private := fields("private")
	v.mustNotShare = v.mustNot || private || // §5.2.2.7
		x.authorized && !has("public", "must-revalidate", "s-maxage") // §3.5
	v.revalidate = has("must-revalidate", "proxy-revalidate", "s-maxage")

	// §4.2.1
	seconds := func(d time.Duration) int64 { return int64(d / time.Second) }
	date := x.received
	if x.date.given && x.date.valid {
		date = x.date.at
	}
	if n, ok := number("s-maxage"); ok {
		v.lifetime, v.explicit = n, true
	} else if n, ok := number("max-age"); ok {
		v.lifetime, v.explicit = n, true
	} else if x.expires.given && !targeted {
		v.explicit = true
		if x.expires.valid {
			v.lifetime = max(seconds(x.expires.at.Sub(date)), 0)
		}
	}
	switch {
	case v.explicit:
	case x.method == "POST": // RFC 9110 §9.3.3
		v.mustNot, v.mustNotShare = true, true
	case x.ttl > 0 && x.status == 200:
		v.lifetime = x.ttl
	case x.heuristic && x.modified.given && x.modified.valid &&
		(slices.Contains([]int{200, 203, 204, 206, 300, 301, 308, 404, 405, 410, 414, 501}, x.status) || has("public")): // §4.2.2
		v.lifetime = -1 // a tenth: compared apart
	}

	// §4.2.3
	apparent, age := int64(0), max(x.age, 0)
	if x.date.given && x.date.valid {
		apparent = max(seconds(x.received.Sub(date)), 0)
	}
	v.age = max(apparent, min(age, top)+x.delay)

	if n, ok := number("stale-while-revalidate"); ok {
		v.swr = n
	}
	if n, ok := number("stale-if-error"); ok {
		v.sie = n
	}
	if v.revalidate || v.noCache {
		v.swr, v.sie = 0, 0
	}
	return v
}

func TestModel(t *testing.T) {
	rounds := 250_000
	if testing.Short() {
		rounds = 20_000
	}
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 1))
	stored := 0
	for i := range rounds {
		x := randomExchange(r)
		h := x.header(r)
		want := x.model()
		p := &Policy{Targets: []string{"Cdn-Cache-Control"}, Heuristic: x.heuristic, TTL: func(status int) time.Duration {
			if status == 200 {
				return time.Duration(x.ttl) * time.Second
			}
			return 0
		}}
		got := p.Evaluate(&Exchange{
			Method: x.method, Authorized: x.authorized, Range: x.ranged, Status: x.status, Header: h,
			Requested: x.received.Add(-time.Duration(x.delay) * time.Second), Received: x.received,
		})
		fail := func(what string, got, want any) {
			t.Fatalf("seed %d, exchange %d: %s: got %v, want %v\n%+v\n%v", seed, i, what, got, want, *x, h)
		}
		if got.Shared == Stored && want.mustNotShare {
			fail("shared", true, false)
		}
		if got.Private == Stored && want.mustNot {
			fail("stored", true, false)
		}
		if want.mustNot {
			continue
		}
		if got.Explicit != want.explicit {
			fail("explicit", got.Explicit, want.explicit)
		}
		if got.Age != time.Duration(want.age)*time.Second {
			fail("age", got.Age, want.age)
		}
		lifetime := time.Duration(want.lifetime) * time.Second
		if want.lifetime < 0 {
			date := x.received
			if x.date.given && x.date.valid {
				date = x.date.at
			}
			lifetime = min(max(date.Sub(x.modified.at)/10, 0), 24*time.Hour)
		}
		if got.Lifetime != lifetime {
			fail("lifetime", got.Lifetime, lifetime)
		}
		if got.MustRevalidate != want.revalidate || got.NoCache != want.noCache {
			fail("rules", []bool{got.MustRevalidate, got.NoCache}, []bool{want.revalidate, want.noCache})
		}
		if got.StaleWhileRevalidate != time.Duration(want.swr)*time.Second || got.StaleIfError != time.Duration(want.sie)*time.Second {
			fail("stale", []time.Duration{got.StaleWhileRevalidate, got.StaleIfError}, []int64{want.swr, want.sie})
		}
		// What saves a request is kept.
		if useful := lifetime > got.Age && !want.noCache; useful && got.Private != Stored || useful && !want.mustNotShare && got.Shared != Stored {
			fail("not stored", []Reason{got.Shared, got.Private}, "stored")
		}
		if got.Private != Stored {
			continue
		}
		stored++
		kept := StoredFields(h, got.Omit...)
		for _, f := range want.omit {
			if kept[f] != nil {
				fail("field", f, "not stored")
			}
		}
		modelReuse(t, r, got, fail)
		modelUpdate(r, kept, fail)
	}
	if stored < rounds/20 {
		t.Errorf("only %d of %d exchanges were stored", stored, rounds)
	}
}

// modelReuse compares what is decided for requests that come later.
func modelReuse(t *testing.T, r *rand.Rand, v Decision, fail func(string, any, any)) {
	t.Helper()
	sec := time.Second
	later := oneOf(r, 0, v.Lifetime-v.Age-sec, v.Lifetime-v.Age, v.Lifetime-v.Age+sec, v.Lifetime+v.StaleWhileRevalidate, time.Duration(r.IntN(5000))*sec)
	c := Candidate{
		Age: v.Age + max(later, 0), Lifetime: v.Lifetime, StaleWhileRevalidate: v.StaleWhileRevalidate,
		MustRevalidate: v.MustRevalidate, NoCache: v.NoCache, Immutable: v.Immutable, Soft: r.IntN(8) == 0,
	}
	// The request's wishes (§5.2.1), -1 where it has none.
	noCache, maxAge, minFresh, maxStale := r.IntN(6) == 0, int64(-1), int64(-1), int64(-1)
	anyStale := r.IntN(10) == 0
	var words []word
	add := func(n *int64, name string) {
		if r.IntN(4) == 0 {
			*n = min(randomSeconds(r), top)
			words = append(words, word{name: name, seconds: *n})
		}
	}
	add(&maxAge, "max-age")
	add(&minFresh, "min-fresh")
	if anyStale {
		words = append(words, word{name: "max-stale", seconds: -1})
	} else {
		add(&maxStale, "max-stale")
	}
	request := http.Header{}
	if noCache {
		if len(words) == 0 && r.IntN(2) == 0 {
			request["Pragma"] = []string{"no-cache"}
		} else {
			words = append(words, word{name: "no-cache", seconds: -1})
		}
	}
	if len(words) > 0 {
		request["Cache-Control"] = written(r, words)
	}
	honour := r.IntN(4) > 0
	if !honour {
		noCache, maxAge, minFresh, maxStale, anyStale = false, -1, -1, -1, false
	}
	wish := ReadRequestDirectives(request, honour)

	age, remaining := int64(c.Age/sec), c.Lifetime-c.Age
	fresh := remaining > 0 && !c.Soft
	young := maxAge < 0 || age < maxAge
	want := Validate
	switch {
	case c.NoCache || noCache:
	case fresh && (maxAge == 0 && c.Immutable || young && (minFresh < 0 || remaining >= time.Duration(minFresh)*sec)):
		want = UseFresh
	case fresh:
	case c.MustRevalidate || !young || minFresh > 0:
	case !c.Soft && (anyStale || maxStale >= 0 && -remaining <= time.Duration(maxStale)*sec):
		want = UseStale
	case maxAge < 0 && -min(remaining, 0) < c.StaleWhileRevalidate || maxAge < 0 && c.Soft && remaining > 0 && c.StaleWhileRevalidate > 0:
		want = UseWhileRevalidating
	}
	if got := c.Evaluate(&wish); got != want {
		fail(fmt.Sprintf("reuse of %+v for %v (honoured: %v)", c, request, honour), got, want)
	}
}

// modelUpdate compares what a 304 makes of the stored fields (§3.2, §4.3.4).
func modelUpdate(r *rand.Rand, stored http.Header, fail func(string, any, any)) {
	fresh, want := http.Header{}, stored.Clone()
	delete(want, "Age")
	for _, name := range []string{"Etag", "Date", "X-A", "X-New", "Cache-Control", "Content-Type", "Content-Length", "Content-Range", "Content-Encoding", "Connection", "Keep-Alive", "X-Hop", "Age"} {
		if r.IntN(2) > 0 {
			continue
		}
		fresh[name] = []string{"new"}
		switch name {
		case "Connection":
			fresh[name] = []string{"X-Hop"}
		case "Content-Length", "Content-Range", "Keep-Alive", "X-Hop":
		case "Content-Type", "Content-Encoding":
			if want[name] == nil {
				want[name] = fresh[name]
			}
		default:
			want[name] = fresh[name]
		}
	}
	if fresh["X-Hop"] != nil && fresh["Connection"] == nil {
		want["X-Hop"] = fresh["X-Hop"]
	}
	got := Update(stored, fresh)
	if len(got) != len(want) {
		fail("updated fields", got, want)
	}
	for name, values := range want {
		if !slices.Equal(got[name], values) {
			fail("updated "+name, got[name], values)
		}
	}
}
