package epoch

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/pythopus/tentagate/rediscache/internal/object"
)

// model says what the table should, from a list of all invalidations and with
// the texts themselves.
type model struct{ log []object.Scope }

// check compares the response with what was invalidated after the first n.
func (m *model) check(o *object.Object, n int) object.Freshness {
	found := object.Valid
	url := strings.ToLower(o.Host) + o.Path
	for _, s := range m.log[n:] {
		hit := s.All ||
			s.URL != "" && strings.TrimPrefix(s.URL, "https://") == url ||
			s.URL != "" && o.AnyQuery && path(strings.TrimPrefix(s.URL, "https://")) == path(url) ||
			s.Prefix != "" && strings.HasPrefix(url, strings.TrimPrefix(s.Prefix, "https://")) ||
			s.Host != "" && s.Host == strings.ToLower(o.Host) ||
			s.Tag != "" && slices.Contains(o.Tags, s.Tag) ||
			s.Group != "" && strings.TrimPrefix(s.Origin, "https://") == strings.ToLower(o.Host) && slices.Contains(o.Groups, s.Group)
		switch {
		case hit && s.Soft:
			found = max(found, object.Soft)
		case hit:
			found = object.Hard
		}
	}
	return found
}

func path(url string) string {
	before, _, _ := strings.Cut(url, "?")
	return before
}

func pick[T any](r *rand.Rand, list []T) T { return list[r.IntN(len(list))] }

// The table agrees with the model whatever is stored and invalidated. With few
// invalidations between two collisions do not happen.
func TestModel(t *testing.T) {
	hosts := []string{"a.test", "B.test", "b.test.example"}
	paths := []string{"/", "/x", "/x/", "/x/y", "/x/y?z", "/x/y?z=1", "/xy", "//", "/x%2Fy"}
	words := []string{"one", "two", "three", "x", "/x"}
	type stored struct {
		*object.Object
		since int
	}
	checks := 0
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 7))
		table, m := New(), &model{}
		var objects []stored
		for range 60 {
			switch r.IntN(3) {
			case 0:
				o := &object.Object{Scheme: "https", Host: pick(r, hosts), Path: pick(r, paths), AnyQuery: r.IntN(3) == 0, Epoch: table.Now()}
				for range r.IntN(3) {
					o.Tags = append(o.Tags, pick(r, words))
				}
				for range r.IntN(2) {
					o.Groups = append(o.Groups, pick(r, words))
				}
				objects = append(objects, stored{o, len(m.log)})
			case 1:
				host := strings.ToLower(pick(r, hosts))
				s := object.Scope{Soft: r.IntN(2) == 0}
				switch r.IntN(12) {
				case 0:
					s.All = true
				case 1, 2:
					s.URL = "https://" + host + pick(r, paths)
				case 3, 4, 5:
					path := pick(r, paths)
					s.Prefix = "https://" + host + path[:1+r.IntN(len(path))]
				case 6:
					s.Host = host
				case 7, 8, 9:
					s.Tag = pick(r, words)
				default:
					s.Group, s.Origin = pick(r, words), "https://"+host
				}
				m.log = append(m.log, s)
				table.Invalidate(s)
			default:
				for _, o := range objects {
					checks++
					if got, want := table.Check(o.Object), m.check(o.Object, o.since); got != want {
						t.Fatalf("seed %d: %+v since %d of %+v: got %d, want %d", seed, o.Object, o.since, m.log, got, want)
					}
				}
			}
		}
	}
	if checks < 40_000 {
		t.Errorf("only %d checks", checks)
	}
}
