package redis

import (
	"encoding/binary"
	"errors"
	"math"
	"net/http"
	"slices"
	"time"

	"github.com/zeebo/xxh3"

	"github.com/pythopus/tentagate/rediscache/internal/object"
)

// A value begins with the magic bytes and the version of the format, and ends
// with a checksum of all that is before. Whatever else is found under a key is
// a miss, and deleted.
const (
	magic   = "TGC"
	version = 2

	flagZstd    = 1 << 0 // the body is compressed
	flagChunked = 1 << 1 // the body is in keys of its own

	// maxEpoch is the highest epoch that the log in Redis can hold exactly.
	maxEpoch = 1 << 53

	flagMustRevalidate = 1 << 0
	flagNoCache        = 1 << 1
	flagAnyQuery       = 1 << 2

	checksumSize = 8
	// chunkSize is how much of a body one key holds at most. Redis moves a key
	// in one piece, during which it answers no other client.
	chunkSize = 512 << 10
)

// errCorrupt says that a value cannot be one that a gateway of this version
// wrote.
var errCorrupt = errors.New("not a stored response of this version")

// head is a decoded value without the content of its body.
type head struct {
	key    string
	object *object.Object

	zstd     bool
	rawSize  int // of the body, as it is served
	bodySize int // of the body, as it is kept

	// Of a body in keys of its own: how many they are, what they begin with and
	// the checksum of the body.
	chunks  int
	nonce   uint64
	bodySum uint64

	// body is the body where it is part of the value.
	body []byte
}

// encode returns the value for the object. body is what is kept of its body,
// compressed or not; with chunks it is left out.
func encode(h *head, body []byte) []byte {
	o := h.object
	size := 256 + len(h.key) + o.Size() - cap(o.Body)
	if h.chunks == 0 {
		size += len(body)
	}
	b := make([]byte, 0, size)
	b = append(b, magic...)
	b = append(b, version)
	var flags byte
	if h.zstd {
		flags |= flagZstd
	}
	if h.chunks > 0 {
		flags |= flagChunked
	}
	b = append(b, flags)
	b = appendText(b, h.key)
	b = appendTexts(b, o.Vary)
	b = appendText(b, o.Variant)
	b = binary.AppendUvarint(b, uint64(o.Status))
	b = binary.AppendVarint(b, o.RequestTime.UnixMicro())
	b = binary.AppendVarint(b, o.ResponseTime.UnixMicro())
	for _, d := range []time.Duration{o.InitialAge, o.Lifetime, o.StaleWhileRevalidate, o.StaleIfError, o.Keep} {
		b = binary.AppendVarint(b, d.Microseconds())
	}
	b = binary.AppendUvarint(b, o.Epoch)
	var rules byte
	if o.MustRevalidate {
		rules |= flagMustRevalidate
	}
	if o.NoCache {
		rules |= flagNoCache
	}
	if o.AnyQuery {
		rules |= flagAnyQuery
	}
	b = append(b, rules)
	for _, s := range []string{o.Scheme, o.Host, o.Path} {
		b = appendText(b, s)
	}
	b = appendTexts(b, o.Tags)
	b = appendTexts(b, o.Groups)
	b = appendFields(b, o.Header)
	b = appendFields(b, o.Trailer)
	b = binary.AppendUvarint(b, uint64(h.rawSize))
	b = binary.AppendUvarint(b, uint64(len(body)))
	if h.chunks > 0 {
		b = binary.AppendUvarint(b, uint64(h.chunks))
		b = binary.LittleEndian.AppendUint64(b, h.nonce)
		b = binary.LittleEndian.AppendUint64(b, xxh3.Hash(body))
	} else {
		b = append(b, body...)
	}
	return binary.LittleEndian.AppendUint64(b, xxh3.Hash(b))
}

func appendText(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func appendTexts(b []byte, list []string) []byte {
	b = binary.AppendUvarint(b, uint64(len(list)))
	for _, s := range list {
		b = appendText(b, s)
	}
	return b
}

func appendFields(b []byte, fields http.Header) []byte {
	names := make([]string, 0, len(fields))
	for name := range fields {
		names = append(names, name)
	}
	slices.Sort(names)
	b = binary.AppendUvarint(b, uint64(len(names)))
	for _, name := range names {
		b = appendText(b, name)
		b = appendTexts(b, fields[name])
	}
	return b
}

// decode reads what encode wrote. The texts and the body that it returns are
// parts of value, which the caller must not change afterwards. bytes is value
// again, as go-redis gives it without a copy.
func decode(value string, bytes []byte) (*head, error) {
	if len(value) < len(magic)+2+checksumSize || value[:len(magic)] != magic || value[len(magic)] != version {
		return nil, errCorrupt
	}
	end := len(value) - checksumSize
	if binary.LittleEndian.Uint64(bytes[end:]) != xxh3.Hash(bytes[:end]) {
		return nil, errCorrupt
	}
	r := &reader{s: value[:end], b: bytes[:end], at: len(magic) + 1}
	flags := r.byte()
	o := &object.Object{}
	h := &head{object: o, zstd: flags&flagZstd != 0}
	h.key = r.text()
	o.Vary = r.texts()
	o.Variant = r.text()
	o.Status = int(r.number(999))
	o.RequestTime = time.UnixMicro(r.signed())
	o.ResponseTime = time.UnixMicro(r.signed())
	for _, d := range []*time.Duration{&o.InitialAge, &o.Lifetime, &o.StaleWhileRevalidate, &o.StaleIfError, &o.Keep} {
		*d = r.duration()
	}
	o.Epoch = r.number(maxEpoch)
	rules := r.byte()
	o.MustRevalidate, o.NoCache, o.AnyQuery = rules&flagMustRevalidate != 0, rules&flagNoCache != 0, rules&flagAnyQuery != 0
	o.Scheme, o.Host, o.Path = r.text(), r.text(), r.text()
	o.Tags, o.Groups = r.texts(), r.texts()
	o.Header, o.Trailer = r.fields(), r.fields()
	if o.Header == nil {
		o.Header = http.Header{}
	}
	h.rawSize = int(r.number(math.MaxInt32))
	h.bodySize = int(r.number(math.MaxInt32))
	if flags&flagChunked != 0 {
		h.chunks = int(r.number(math.MaxInt32 / chunkSize))
		h.nonce, h.bodySum = r.fixed(), r.fixed()
		if h.chunks == 0 || h.chunks != (h.bodySize+chunkSize-1)/chunkSize {
			r.bad = true
		}
	} else if at := r.skip(h.bodySize); !r.bad {
		h.body = bytes[at : at+h.bodySize : at+h.bodySize]
	}
	if r.bad || r.at != end || flags&^(flagZstd|flagChunked) != 0 || !h.zstd && h.rawSize != h.bodySize {
		return nil, errCorrupt
	}
	return h, nil
}

// reader reads the parts of a value. After the first that is not there, bad is
// true and all that follow are empty.
type reader struct {
	s   string
	b   []byte // s again
	at  int
	bad bool
}

func (r *reader) skip(n int) int {
	at := r.at
	if r.bad || n < 0 || n > len(r.s)-at {
		r.bad = true
		return at
	}
	r.at += n
	return at
}

func (r *reader) byte() byte {
	at := r.skip(1)
	if r.bad {
		return 0
	}
	return r.s[at]
}

func (r *reader) fixed() uint64 {
	at := r.skip(8)
	if r.bad {
		return 0
	}
	return binary.LittleEndian.Uint64(r.b[at:])
}

// number reads an unsigned number up to maximum.
func (r *reader) number(maximum uint64) uint64 {
	v, n := binary.Uvarint(r.b[r.at:])
	if r.skip(n); r.bad || n <= 0 || v > maximum {
		r.bad = true
		return 0
	}
	return v
}

func (r *reader) signed() int64 {
	v, n := binary.Varint(r.b[r.at:])
	if r.skip(n); r.bad || n <= 0 {
		r.bad = true
		return 0
	}
	return v
}

func (r *reader) duration() time.Duration {
	us := r.signed()
	if us > math.MaxInt64/1000 || us < math.MinInt64/1000 {
		r.bad = true
		return 0
	}
	return time.Duration(us) * time.Microsecond
}

// count reads how many parts follow, each of at least one byte.
func (r *reader) count() int {
	return int(r.number(uint64(len(r.s) - r.at)))
}

func (r *reader) text() string {
	n := r.count()
	at := r.skip(n)
	if r.bad {
		return ""
	}
	return r.s[at : at+n]
}

func (r *reader) texts() []string {
	n := r.count()
	if n == 0 || r.bad {
		return nil
	}
	// Not more at once than a sane value has: the count is not yet known to be
	// followed by as many texts.
	list := make([]string, 0, min(n, 64))
	for range n {
		list = append(list, r.text())
		if r.bad {
			return nil
		}
	}
	return list
}

func (r *reader) fields() http.Header {
	n := r.count()
	if n == 0 || r.bad {
		return nil
	}
	fields := make(http.Header, min(n, 64))
	for range n {
		name := r.text()
		values := r.texts()
		if r.bad {
			return nil
		}
		fields[name] = values
	}
	return fields
}
