package availability

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"testing"

	"github.com/redis/go-redis/v9"
)

// reply is an error reply of a server.
type reply string

func (r reply) Error() string { return string(r) }
func (reply) RedisError()     {}

func TestClassify(t *testing.T) {
	for _, tc := range []struct {
		err  error
		want Class
	}{
		{nil, Answered},
		{redis.Nil, Answered},
		{fmt.Errorf("key: %w", redis.Nil), Answered},
		{reply("NOSCRIPT No matching script. Please use EVAL."), Answered},
		{reply("WRONGTYPE Operation against a key holding the wrong kind of value"), Answered},
		{reply("CROSSSLOT Keys in request don't hash to the same slot"), Answered},
		{reply("EXECABORT Transaction discarded because of previous errors."), Answered},
		{reply("ERR unknown command 'FOO'"), Answered},
		{reply("ERR Error running script (call to f_0): @user_script:1: Script killed by user"), Answered},
		{reply("OOMPH"), Answered},
		{reply(""), Answered},

		{reply("OOM command not allowed when used memory > 'maxmemory'."), Refused},
		{reply("READONLY You can't write against a read only replica."), Refused},
		{reply("MISCONF Redis is configured to save RDB snapshots"), Refused},
		{reply("NOREPLICAS Not enough good replicas to write."), Refused},
		{reply("NOPERM this user has no permissions to run the 'set' command"), Refused},
		{reply("ERR Error running script (call to f_0): @user_script:1: -READONLY You can't write against a read only replica."), Refused},
		{reply("ERR Error running script (call to f_0): @user_script:1: @user_script: 1: -OOM command not allowed when used memory > 'maxmemory'."), Refused},
		{fmt.Errorf("%w: %w", ErrRefused, reply("ERR no")), Refused},

		{reply("LOADING Redis is loading the dataset in memory"), Outage},
		{reply("BUSY Redis is busy running a script."), Outage},
		{reply("UNKILLABLE Sorry the script already executed write commands"), Outage},
		{reply("MASTERDOWN Link with MASTER is down"), Outage},
		{reply("CLUSTERDOWN The cluster is down"), Outage},
		{reply("TRYAGAIN Multiple keys request during rehashing of slot"), Outage},
		{reply("MOVED 3999 127.0.0.1:6381"), Outage},
		{reply("ASK 3999 127.0.0.1:6381"), Outage},
		{reply("NOAUTH Authentication required."), Outage},
		{reply("WRONGPASS invalid username-password pair"), Outage},
		{reply("DENIED Redis is running in protected mode"), Outage},
		{reply("ERR max number of clients reached"), Outage},
		{fmt.Errorf("connecting: %w", reply("WRONGPASS invalid username-password pair")), Outage},
		{context.DeadlineExceeded, Outage},
		{os.ErrDeadlineExceeded, Outage},
		{redis.ErrPoolTimeout, Outage},
		{io.EOF, Outage},
		{net.ErrClosed, Outage},
		{&net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}, Outage},
		{&net.OpError{Op: "read", Err: os.ErrDeadlineExceeded}, Outage},
		{errors.New("redis: can't parse \"HTTP/1.1 400\""), Outage},

		{context.Canceled, Canceled},
		{fmt.Errorf("call: %w", context.Canceled), Canceled},
		{&net.OpError{Op: "dial", Err: context.Canceled}, Canceled},
		{redis.ErrClosed, Canceled},
	} {
		if got := Classify(tc.err); got != tc.want {
			t.Errorf("%v: class %d, want %d", tc.err, got, tc.want)
		}
	}
}

func TestIsTimeout(t *testing.T) {
	for _, err := range []error{
		context.DeadlineExceeded, os.ErrDeadlineExceeded, redis.ErrPoolTimeout,
		&net.OpError{Op: "read", Err: os.ErrDeadlineExceeded},
	} {
		if !isTimeout(err) {
			t.Errorf("%v is no timeout", err)
		}
	}
	for _, err := range []error{nil, io.EOF, &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}, reply("LOADING")} {
		if isTimeout(err) {
			t.Errorf("%v is a timeout", err)
		}
	}
}
