// Package typo finds the name that was probably meant by a mistyped one.
package typo

// Nearest returns the candidate that is closest to the text, the first of several,
// if it differs in at most letters; otherwise "".
func Nearest(text string, candidates []string, most int) string {
	best := ""
	for _, c := range candidates {
		if d := distance(text, c); d <= most {
			best, most = c, d-1
		}
	}
	return best
}

// distance is the Levenshtein distance: how many bytes must be inserted, deleted
// or replaced to turn a into b.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost = 1 + min(diagonal, row[j], row[j+1])
			}
			diagonal, row[j+1] = row[j+1], cost
		}
	}
	return row[len(b)]
}
