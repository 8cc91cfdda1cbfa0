package admin

import (
	"context"
	"fmt"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestRefresh(t *testing.T) {
	var fetched atomic.Int32
	list := []Refreshable{{"a", func(context.Context) { fetched.Add(1) }}, {"b", func(context.Context) { fetched.Add(10) }}, {"b", func(context.Context) { fetched.Add(10) }}}
	for _, tc := range []struct {
		query, fails string
		want         int32
	}{
		{"refresh=a", "", 1},
		{"refresh=b", "", 20},
		{"refresh=all", "", 21},
		{"refresh=c", `no thing "c": accepted are a, b`, 0},
		{"", "refresh: name a thing, or all: POST /things?refresh=all", 0},
	} {
		fetched.Store(0)
		err := Refresh(httptest.NewRequest("POST", "/things?"+tc.query, nil), "thing", list)
		if fetched.Load() != tc.want || (err != nil) != (tc.fails != "") || !strings.Contains(fmt.Sprint(err), tc.fails) && err != nil {
			t.Errorf("%s: %d fetches, want %d; error %v, want %q", tc.query, fetched.Load(), tc.want, err, tc.fails)
		}
	}
}

// However many do not answer, one request waits for them no longer than its timeout, and
// has few fetches at once.
func TestRefreshIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		running, most := 0, 0
		count := func(n int) {
			mu.Lock()
			defer mu.Unlock()
			running += n
			most = max(most, running)
		}
		var list []Refreshable
		for i := range 100 {
			list = append(list, Refreshable{fmt.Sprint(i), func(ctx context.Context) {
				count(1)
				<-ctx.Done()
				count(-1)
			}})
		}
		begin := time.Now()
		if err := Refresh(httptest.NewRequest("POST", "/things?refresh=all", nil).WithContext(t.Context()), "thing", list); err != nil {
			t.Error(err)
		}
		if took := time.Since(begin); took != refreshTimeout || running != 0 || most > parallelRefreshes {
			t.Errorf("took %v, %d still running, %d at once", took, running, most)
		}
	})
}
