package heapprofile_test

import (
	"testing"

	"github.com/pythopus/tentagate/internal/heapprofile"
)

func TestIsChosen(t *testing.T) {
	for godebug, want := range map[string]bool{
		"memprofilerate=524288": true, "http2xconnect=1,memprofilerate=1": true, "memprofilerate=1,gctrace=1": true,
		"": false, "memprofilerate": false, "xmemprofilerate=1": false, "gctrace=1": false, ",": false,
	} {
		if heapprofile.IsChosen(godebug) != want {
			t.Errorf("%q: want %v", godebug, want)
		}
	}
}
