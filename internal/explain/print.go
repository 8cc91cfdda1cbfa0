package explain

import (
	"cmp"
	"fmt"
	"io"
	"strconv"
)

// PrintSteps writes steps as a table whose columns end with tabs. The column AT is there
// if a step has a place.
func PrintSteps(w io.Writer, steps []Step) {
	places := false
	for i := range steps {
		places = places || steps[i].At != ""
	}
	row := func(handler, at, result, reason string) {
		if places {
			handler += "\t" + at
		}
		fmt.Fprintf(w, "%s\t%s\t%s\n", handler, result, reason)
	}
	row("HANDLER", "AT", "RESULT", "REASON")
	for _, s := range steps {
		result := string(s.Result)
		if s.Status != 0 {
			result += " " + strconv.Itoa(s.Status)
		}
		row(s.Handler, cmp.Or(s.At, "-"), result, s.Reason)
	}
}
