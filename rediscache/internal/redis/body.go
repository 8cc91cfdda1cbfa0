package redis

import (
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"

	"github.com/klauspost/compress/zstd"
	"github.com/zeebo/xxh3"

	"github.com/pythopus/tentagate/rediscache/internal/object"
)

// compressFrom is the size of the shortest body that is worth compressing.
const compressFrom = 512

// encoder and decoder are shared: their one-shot methods may be called by many
// goroutines at once. They are made when first needed, for they are large.
var (
	encoder = sync.OnceValue(func() *zstd.Encoder {
		w, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(2))
		if err != nil {
			panic("redis: zstd: " + err.Error()) // only for options that contradict each other
		}
		return w
	})
	decoder = sync.OnceValue(func() *zstd.Decoder {
		r, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(0), zstd.WithDecoderMaxMemory(maxDecoded))
		if err != nil {
			panic("redis: zstd: " + err.Error())
		}
		return r
	})
)

// maxDecoded bounds what a compressed body may grow to.
const maxDecoded = 256 << 20

// pack returns the value of the object and the parts of its body that are kept
// in keys of their own.
func pack(key object.Key, o *object.Object, compress bool) (value []byte, chunks [][]byte) {
	h := &head{key: key.Full, object: o, rawSize: len(o.Body)}
	body := o.Body
	if compress && compressible(o) {
		if small := encoder().EncodeAll(body, make([]byte, 0, len(body)/2)); len(small) < len(body)*9/10 {
			body, h.zstd = small, true
		}
	}
	if len(body) > chunkSize {
		h.chunks = (len(body) + chunkSize - 1) / chunkSize
		// The nonce ties the parts to the head: writers of the same variant may
		// overtake each other.
		h.nonce = rand.Uint64()
		for at := 0; at < len(body); at += chunkSize {
			part := body[at:min(at+chunkSize, len(body))]
			chunk := binary.LittleEndian.AppendUint64(make([]byte, 0, 8+len(part)), h.nonce)
			chunks = append(chunks, append(chunk, part...))
		}
	}
	return encode(h, body), chunks
}

// compressible reports whether the body is text that no content coding has
// compressed yet.
func compressible(o *object.Object) bool {
	if len(o.Body) < compressFrom || len(o.Header["Content-Encoding"]) > 0 {
		return false
	}
	kind := strings.ToLower(o.Header.Get("Content-Type"))
	kind, _, _ = strings.Cut(kind, ";")
	kind = strings.TrimSpace(kind)
	if strings.HasPrefix(kind, "text/") || strings.HasSuffix(kind, "+json") || strings.HasSuffix(kind, "+xml") {
		return true
	}
	switch kind {
	case "application/json", "application/javascript", "application/xml", "application/x-ndjson", "application/wasm":
		return true
	}
	return false
}

// errTorn says that the parts of a body are of different writes, or that some
// are missing. It is no damage: they are being replaced or were evicted.
var errTorn = errors.New("the parts of a body do not belong together")

// unpack completes the object with its body. chunks are the parts, if the head
// asked for them.
func (h *head) unpack(chunks [][]byte) (*object.Object, error) {
	body := h.body
	if h.chunks > 0 {
		if len(chunks) != h.chunks {
			return nil, errTorn
		}
		body = make([]byte, 0, h.bodySize)
		for _, c := range chunks {
			if len(c) < 8 || binary.LittleEndian.Uint64(c) != h.nonce || len(body)+len(c)-8 > h.bodySize {
				return nil, errTorn
			}
			body = append(body, c[8:]...)
		}
		if len(body) != h.bodySize || xxh3.Hash(body) != h.bodySum {
			return nil, errCorrupt
		}
	}
	if h.zstd {
		if h.rawSize > maxDecoded {
			return nil, errCorrupt
		}
		raw, err := decoder().DecodeAll(body, make([]byte, 0, min(h.rawSize, 64*len(body)+1024)))
		if err != nil || len(raw) != h.rawSize {
			return nil, errCorrupt
		}
		body = slices.Clip(raw)
	}
	h.object.Body = body
	return h.object, nil
}
