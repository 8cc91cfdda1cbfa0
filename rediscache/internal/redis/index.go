package redis

import (
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/pythopus/tentagate/rediscache/internal/object"
)

// plainVariant is the identifier of the variant of a response without Vary.
const plainVariant = "0"

// variantID returns the identifier of a variant within its key.
func variantID(o *object.Object) string {
	if len(o.Vary) == 0 && o.Variant == "" {
		return plainVariant
	}
	k := object.NewKey(append(slices.Clone(o.Vary), o.Variant)...)
	return hex.EncodeToString(k.Hash[:8])
}

func chunkName(id string, i int) string { return "c:" + id + ":" + strconv.Itoa(i) }

// indexed is a variant as the index describes it.
type indexed struct {
	id      string
	stored  int64 // Unix time in microseconds
	until   int64 // the last useful moment, likewise
	chunks  int
	vary    []string
	variant string
}

// String returns the description as it is written.
func (v indexed) String() string {
	b := fmt.Appendf(nil, "%016d%016d%05d", v.stored, v.until, v.chunks)
	return string(appendText(appendTexts(b, v.vary), v.variant))
}

func parseIndexed(id, s string) (indexed, bool) {
	const fixed = 16 + 16 + 5
	v := indexed{id: id}
	if len(s) < fixed {
		return v, false
	}
	var errs [3]error
	v.stored, errs[0] = strconv.ParseInt(s[:16], 10, 64)
	v.until, errs[1] = strconv.ParseInt(s[16:32], 10, 64)
	v.chunks, errs[2] = strconv.Atoi(s[32:fixed])
	r := &reader{s: s, b: []byte(s), at: fixed}
	v.vary, v.variant = r.texts(), r.text()
	return v, errors.Join(errs[:]...) == nil && !r.bad && r.at == len(s)
}

// wanted returns the variants that match accepts, newest first. damaged is called for an
// index that cannot be read.
func wanted(key object.Key, index map[string]string, match func([]string, string) bool, damaged func(key object.Key, rest string)) []indexed {
	var list []indexed
	now := time.Now().UnixMicro()
	for id, text := range index {
		v, ok := parseIndexed(id, text)
		if !ok {
			damaged(key, "i")
			return nil
		}
		if v.until > now && match(v.vary, v.variant) {
			list = append(list, v)
		}
	}
	slices.SortFunc(list, func(a, b indexed) int { return int(min(max(b.stored-a.stored, -1), 1)) })
	return list[:min(len(list), maxFetched)]
}
