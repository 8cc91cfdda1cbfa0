package redis

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/pythopus/tentagate/app/availability"
	"github.com/pythopus/tentagate/rediscache/internal/object"
)

// errNotAsked means that Redis is unavailable or has too many reads under way.
var errNotAsked = errors.New("redis is not asked")

// ask calls f and returns what it returns, within what is left of the budget:
// limited is ctx with it. It reports how it went. f runs in a
// goroutine of its own, so the budget holds even where the client's deadlines do
// not, as while it looks for a Cluster's nodes; and it may go on after ask has
// returned an error, so it must not use anything of the request.
func ask[T any](s *Store, p *availability.Partition, ctx, limited context.Context, f func(context.Context) (T, error)) (T, error) {
	type result struct {
		value T
		err   error
	}
	var r result
	if !p.Readable() {
		return r.value, errNotAsked
	}
	select {
	case s.reads <- struct{}{}:
	default:
		return r.value, errNotAsked
	}
	answer := make(chan result, 1)
	call := availability.Call{Began: time.Now()}
	if deadline, ok := limited.Deadline(); ok {
		call.Short = deadline.Sub(call.Began) < s.o.Budget/2
	}
	go func() {
		defer func() { <-s.reads }()
		v, err := f(limited)
		answer <- result{v, err}
	}()
	select {
	case r = <-answer:
	case <-limited.Done():
		r.err = limited.Err()
	}
	switch {
	case isAnswer(r.err):
		p.Report(call, r.err)
	case ctx.Err() != nil:
		// The request is over; nothing can be said about Redis.
	case limited.Err() != nil:
		s.n.late.Add(1)
		p.Report(call, r.err)
	default:
		s.n.errors.Add(1)
		p.Report(call, r.err)
	}
	return r.value, r.err
}

// fetch reads the index, then the variants, then the parts of long bodies. The
// variant of a response without Vary, the usual one, has a fixed name and
// is read together with the index. match is only called here and not in the
// functions given to ask: it reads the request. damaged is called for keys with an
// invalid value.
func (s *Store) fetch(ctx, limited context.Context, key object.Key, match func([]string, string) bool, damaged func(key object.Key, rest string)) (*object.Entry, error) {
	type first struct {
		index *redis.MapStringStringCmd
		plain *redis.StringCmd
	}
	got, err := ask(s, s.partition(key), ctx, limited, func(ctx context.Context) (f first, err error) {
		err = pipelined(ctx, s.o.Client, func(p redis.Pipeliner) {
			f.index = p.HGetAll(ctx, s.key(key, "i"))
			f.plain = p.Get(ctx, s.key(key, "v:"+plainVariant))
		})
		return f, err
	})
	if err != nil {
		return nil, err
	}
	repair(key, "i", got.index.Err(), damaged)
	variants := wanted(key, got.index.Val(), match, damaged)
	if got.plain.Err() == nil && len(got.index.Val()) == 0 && match(nil, "") {
		variants = append(variants, indexed{id: plainVariant}) // the index was evicted
	}
	var names []string
	for _, v := range variants {
		if v.id != plainVariant {
			names = append(names, "v:"+v.id)
		}
	}
	values, err := s.values(ctx, limited, key, names)
	if err != nil {
		return nil, err
	}
	entry := &object.Entry{Key: key}
	for _, v := range variants {
		value := got.plain
		if v.id != plainVariant {
			value, values = values[0], values[1:]
		}
		o, err := s.open(ctx, limited, key, v.id, value, damaged)
		if err != nil {
			return nil, err
		}
		if o != nil && match(o.Vary, o.Variant) && s.o.Admit(o) {
			entry.Variants = append(entry.Variants, o)
		}
	}
	if len(entry.Variants) == 0 {
		return nil, nil
	}
	return entry, nil
}

// values reads some of the Redis keys of a primary key.
func (s *Store) values(ctx, limited context.Context, key object.Key, names []string) ([]*redis.StringCmd, error) {
	if len(names) == 0 {
		return nil, nil
	}
	return ask(s, s.partition(key), ctx, limited, func(ctx context.Context) ([]*redis.StringCmd, error) {
		values := make([]*redis.StringCmd, len(names))
		err := pipelined(ctx, s.o.Client, func(p redis.Pipeliner) {
			for i, name := range names {
				values[i] = p.Get(ctx, s.key(key, name))
			}
		})
		return values, err
	})
}

// pipelined sends the commands in one go. Its error is the first that is no
// answer of Redis; answers are left in the commands.
func pipelined(ctx context.Context, c redis.UniversalClient, f func(redis.Pipeliner)) error {
	p := c.Pipeline()
	f(p)
	if p.Len() == 0 {
		return nil
	}
	cmds, err := p.Exec(ctx)
	for _, cmd := range cmds {
		if e := cmd.Err(); !isAnswer(e) {
			return e
		}
	}
	if !isAnswer(err) {
		return err
	}
	return nil
}

// open decodes a variant and fetches the parts of its body. It returns nil for
// one that is not there, is damaged or is another key's.
func (s *Store) open(ctx, limited context.Context, key object.Key, id string, value *redis.StringCmd, damaged func(key object.Key, rest string)) (*object.Object, error) {
	if value.Err() != nil {
		repair(key, "v:"+id, value.Err(), damaged)
		return nil, nil
	}
	bytes, _ := value.Bytes()
	h, err := decode(value.Val(), bytes)
	if err != nil {
		damaged(key, "v:"+id)
		return nil, nil
	}
	if h.key != key.Full || h.bodySize > s.o.MaxBody || variantID(h.object) != id {
		return nil, nil
	}
	names := make([]string, h.chunks)
	for i := range names {
		names[i] = chunkName(id, i)
	}
	parts, err := s.values(ctx, limited, key, names)
	if err != nil {
		return nil, err
	}
	chunks := make([][]byte, 0, len(parts))
	for _, part := range parts {
		if b, err := part.Bytes(); err == nil {
			chunks = append(chunks, b)
		}
	}
	o, err := h.unpack(chunks)
	switch {
	case errors.Is(err, errCorrupt):
		damaged(key, "v:"+id)
		return nil, nil
	case err != nil:
		return nil, nil
	}
	return o, nil
}

// repair calls damaged for a key that holds another type.
func repair(key object.Key, rest string, err error, damaged func(key object.Key, rest string)) {
	if err != nil && strings.HasPrefix(err.Error(), "WRONGTYPE") {
		damaged(key, rest)
	}
}

// discard deletes a key with an invalid value.
func (s *Store) discard(key object.Key, rest string) {
	s.n.corrupt.Add(1)
	s.enqueue(job{key: key, discard: rest})
}
