package redis

import (
	_ "embed"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/pythopus/tentagate/ratelimit/internal/gcra"
)

//go:embed decide.lua
var decideSource string

//go:embed decide_one.lua
var decideOneSource string

//go:embed decide_same.lua
var decideSameSource string

// script is a script and its hash.
type script struct{ source, hash string }

var (
	decideScript     = script{decideSource, redis.NewScript(decideSource).Hash()}
	decideOneScript  = script{decideOneSource, redis.NewScript(decideOneSource).Hash()}
	decideSameScript = script{decideSameSource, redis.NewScript(decideSameSource).Hash()}
)

// Kinds of a request to the decide script.
type kind uint8

const (
	take kind = iota
	lease
	debit
)

// errReply means that the reply is not one of the script: another program writes to
// our keys.
var errReply = errors.New("unexpected reply of the script")

// appendPlan appends the limits of a plan as arguments of the script.
func appendPlan(args []any, plan *gcra.Plan) []any {
	policies := plan.Policies()
	args = append(args, len(policies))
	for _, p := range policies {
		args = append(args, micros(p.T), micros(p.Tau))
	}
	return args
}

// micros writes nanoseconds as microseconds.
func micros(ns int64) string {
	if ns%1000 == 0 {
		return strconv.FormatInt(ns/1000, 10)
	}
	return strconv.FormatFloat(float64(ns)/1000, 'f', 3, 64)
}

// reader takes a reply of the script apart.
type reader struct {
	values []int64
}

func (r *reader) next() (int64, error) {
	if len(r.values) == 0 {
		return 0, fmt.Errorf("%w: it is too short", errReply)
	}
	n := r.values[0]
	r.values = r.values[1:]
	return n, nil
}

// micros reads a time in microseconds as nanoseconds.
func (r *reader) micros() (int64, error) {
	n, err := r.next()
	if err != nil {
		return 0, err
	}
	const most = int64(1) << 50
	if n < -most || n > most {
		return 0, fmt.Errorf("%w: %d is out of range", errReply, n)
	}
	return n * 1000, nil
}

// reply is the answer to one request.
type reply struct {
	// wait is 0 or the time in nanoseconds until the request would be admitted.
	wait int64
	// granted is the number of units of a lease.
	granted int64
	// debts are how far the TATs of all limits of all calls are ahead, in
	// nanoseconds.
	debts []int64
}

// read takes the answer to a request for these calls.
func (a *reply) read(r *reader, k kind, calls []Call) error {
	a.wait, a.granted = 0, 0
	var err error
	if k == lease {
		var n int64
		if n, err = r.next(); err != nil {
			return err
		}
		if n > 0 {
			a.granted = min(n, calls[0].Cost)
		} else {
			a.wait = -n * 1000
		}
	} else if a.wait, err = r.micros(); err != nil {
		return err
	}
	if a.wait < 0 {
		return fmt.Errorf("%w: a negative wait", errReply)
	}
	a.debts = a.debts[:0]
	for i := range calls {
		for range calls[i].Plan.Policies() {
			debt, err := r.micros()
			if err != nil {
				return err
			}
			a.debts = append(a.debts, max(0, debt))
		}
	}
	return nil
}

// isNoScript reports whether a server does not know the script, because it was
// restarted or promoted.
func isNoScript(err error) bool {
	return err != nil && strings.HasPrefix(err.Error(), "NOSCRIPT")
}
