package redis

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/zeebo/xxh3"

	"github.com/pythopus/tentagate/rediscache/internal/object"
)

func sample(body []byte) *object.Object {
	return &object.Object{
		Status: 203, Body: body,
		Header: http.Header{
			"Content-Type": {"application/json"}, "Etag": {`"x"`},
			"Link": {"</a>", "</b>"}, "X-Empty": {""},
		},
		Trailer: http.Header{"Digest": {"abc"}},
		Vary:    []string{"Accept", "Accept-Encoding"}, Variant: "a\x00gzip",
		RequestTime: time.UnixMicro(1_700_000_000_123_456), ResponseTime: time.UnixMicro(1_700_000_001_000_001),
		Epoch: 1_700_000_000_000_007, InitialAge: 1500 * time.Millisecond, Lifetime: time.Minute,
		StaleWhileRevalidate: time.Second, StaleIfError: time.Hour, Keep: time.Minute,
		MustRevalidate: true, NoCache: true, AnyQuery: true,
		Scheme: "https", Host: "example.com", Path: "/a%2Fb?c=d",
		Tags: []string{"one", "two"}, Groups: []string{"g"},
	}
}

func text(n int) []byte { return []byte(strings.Repeat("all work and no play ", n/21+1)[:n]) }

func noise(n int) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{1})
	_, _ = r.Read(b)
	return b
}

func TestRoundTrip(t *testing.T) {
	key := object.NewKey("https", "example.com", "/a%2Fb?c=d")
	for _, tc := range []struct {
		name     string
		object   *object.Object
		compress bool
		zstd     bool
		chunks   int
	}{
		{"short", sample([]byte("hello")), true, false, 0},
		{"empty", sample(nil), true, false, 0},
		{"text", sample(text(10_000)), true, true, 0},
		{"text, compression off", sample(text(10_000)), false, false, 0},
		{"noise called text", sample(noise(10_000)), true, false, 0},
		{"one key full", sample(noise(chunkSize)), true, false, 0},
		{"one byte more", sample(noise(chunkSize + 1)), true, false, 2},
		{"large", sample(noise(3 * chunkSize)), false, false, 3},
		{"large text", sample(text(3 * chunkSize)), true, true, 0},
		{"bare", &object.Object{Status: 204, Header: http.Header{}}, true, false, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			value, chunks := pack(key, tc.object, tc.compress)
			if len(chunks) != tc.chunks {
				t.Fatalf("%d parts, want %d", len(chunks), tc.chunks)
			}
			h, err := decode(string(value), value)
			if err != nil {
				t.Fatal(err)
			}
			if h.key != key.Full || h.zstd != tc.zstd {
				t.Errorf("key %q, zstd %v", h.key, h.zstd)
			}
			got, err := h.unpack(chunks)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got.Body, tc.object.Body) {
				t.Error("the body differs")
			}
			want := tc.object.Clone()
			got.Body, want.Body = nil, nil
			if tc.object.RequestTime.IsZero() {
				if !got.RequestTime.IsZero() || !got.ResponseTime.IsZero() {
					t.Errorf("times: %v %v", got.RequestTime, got.ResponseTime)
				}
				got.RequestTime, got.ResponseTime = time.Time{}, time.Time{}
			}
			if !reflect.DeepEqual(got, want) {
				t.Errorf("got  %+v\nwant %+v", got, want)
			}
		})
	}
}

// Every field of an object must be written: a new one must not be forgotten.
func TestAllFieldsAreKept(t *testing.T) {
	o := sample([]byte("x"))
	v := reflect.ValueOf(o).Elem()
	for i := range v.NumField() {
		if f := v.Type().Field(i); f.IsExported() && v.Field(i).IsZero() && f.Name != "Arriving" { // no stored one is
			t.Errorf("the sample has no %s: the round trip does not test it", f.Name)
		}
	}
	c := reflect.ValueOf(o.Clone()).Elem()
	for i := range v.NumField() {
		if f := v.Type().Field(i); f.IsExported() && !reflect.DeepEqual(c.Field(i).Interface(), v.Field(i).Interface()) {
			t.Errorf("Clone leaves out %s", f.Name)
		}
	}
}

func TestDamage(t *testing.T) {
	key := object.NewKey("k")
	value, _ := pack(key, sample(text(300)), true)
	for i := range value {
		for _, bit := range []byte{1, 0x80} {
			bad := bytes.Clone(value)
			bad[i] ^= bit
			if _, err := decode(string(bad), bad); !errors.Is(err, errCorrupt) {
				t.Fatalf("byte %d flipped: %v", i, err)
			}
		}
		if _, err := decode(string(value[:i]), value[:i]); !errors.Is(err, errCorrupt) {
			t.Fatalf("cut at %d: %v", i, err)
		}
	}
	for other := range byte(version + 2) {
		if other == version {
			continue
		}
		old := resum(append([]byte{'T', 'G', 'C', other}, value[4:]...))
		if _, err := decode(string(old), old); !errors.Is(err, errCorrupt) {
			t.Errorf("version %d is accepted", other)
		}
	}
	longer := append(bytes.Clone(value), 0)
	if _, err := decode(string(longer), longer); !errors.Is(err, errCorrupt) {
		t.Error("a byte more is accepted")
	}
}

func TestTornBody(t *testing.T) {
	key := object.NewKey("k")
	open := func(value []byte) *head {
		h, err := decode(string(value), value)
		if err != nil {
			t.Fatal(err)
		}
		return h
	}
	v1, c1 := pack(key, sample(noise(2*chunkSize)), false)
	_, c2 := pack(key, sample(noise(2*chunkSize)), false)
	for name, chunks := range map[string][][]byte{
		"missing": c1[:1], "none": nil, "of another write": {c1[0], c2[1]}, "too many": append(c1[:2:2], c1[0]), "short": {c1[0], c1[1][:4]},
	} {
		if _, err := open(v1).unpack(chunks); !errors.Is(err, errTorn) {
			t.Errorf("%s: %v", name, err)
		}
	}
	flipped := bytes.Clone(c1[1])
	flipped[100] ^= 1
	if _, err := open(v1).unpack([][]byte{c1[0], flipped}); !errors.Is(err, errCorrupt) {
		t.Errorf("flipped: %v", err)
	}
	if _, err := open(v1).unpack([][]byte{c1[1], c1[0]}); !errors.Is(err, errCorrupt) {
		t.Error("swapped parts are accepted")
	}
}

// resum gives a value the checksum that it should have, so that what is behind
// it is tested too.
func resum(value []byte) []byte {
	end := len(value) - checksumSize
	return binary.LittleEndian.AppendUint64(value[:end:end], xxh3.Hash(value[:end]))
}

func FuzzDecode(f *testing.F) {
	key := object.NewKey("k")
	for _, o := range []*object.Object{sample([]byte("x")), sample(text(2000)), sample(noise(chunkSize + 1)), {Status: 200}} {
		value, _ := pack(key, o, true)
		f.Add(value)
	}
	f.Add([]byte{'T', 'G', 'C', version})
	f.Fuzz(func(t *testing.T, value []byte) {
		if len(value) < checksumSize {
			return
		}
		if h, err := decode(string(value), value); err == nil {
			_, _ = h.unpack(nil)
		}
		value = resum(value)
		h, err := decode(string(value), value)
		if err != nil {
			return
		}
		o, err := h.unpack(nil)
		if err != nil {
			return
		}
		if len(o.Body) != h.rawSize {
			t.Errorf("a body of %d bytes, %d were announced", len(o.Body), h.rawSize)
		}
		// What was understood is written and read alike.
		again, chunks := pack(object.Key{Full: h.key}, o, false)
		h2, err := decode(string(again), again)
		if err != nil {
			t.Fatalf("own value: %v", err)
		}
		o2, err := h2.unpack(chunks)
		if err != nil {
			t.Fatalf("own body: %v", err)
		}
		if !bytes.Equal(o.Body, o2.Body) || o.Epoch != o2.Epoch || o.Variant != o2.Variant || o.Lifetime != o2.Lifetime {
			t.Errorf("got %+v, want %+v", o2, o)
		}
	})
}

func FuzzIndex(f *testing.F) {
	f.Add(indexed{stored: 1, until: 2, chunks: 3, vary: []string{"A"}, variant: "b"}.String())
	f.Fuzz(func(t *testing.T, s string) {
		if v, ok := parseIndexed("x", s); ok {
			if w, ok := parseIndexed("x", v.String()); ok && !reflect.DeepEqual(v, w) {
				t.Errorf("got %+v, want %+v", w, v)
			}
		}
	})
}

func BenchmarkDecode(b *testing.B) {
	for name, size := range map[string]int{"1k": 1 << 10, "100k": 100 << 10} {
		b.Run(name, func(b *testing.B) {
			value, _ := pack(object.NewKey("k"), sample(noise(size)), false)
			s := string(value)
			b.ReportAllocs()
			b.SetBytes(int64(size))
			for b.Loop() {
				h, err := decode(s, value)
				if err != nil {
					b.Fatal(err)
				}
				if _, err := h.unpack(nil); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
