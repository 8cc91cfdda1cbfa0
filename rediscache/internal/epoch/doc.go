// Package epoch remembers what of the cache was invalidated, and when, in
// memory of a fixed size.
//
// "When" is a number that only grows, the epoch, and not a time of any clock.
// Each stored response carries the epoch of the moment before its request was
// sent. An invalidation takes a higher one and writes it down under the names
// it is about: a URL, a prefix, a host, a tag, a group, or everything. A stored
// response is unusable if any name it belongs to has a higher epoch than its
// own. So an invalidation is a few stores whatever it covers, no list of
// members is kept for a tag, and a response whose request was under way when
// the invalidation came is covered too.
//
// Names are not kept. Each has four places in a table of fixed size, found
// by its hash, and the lowest of the epochs there counts. Names may share
// places; then a response may be fetched again without need, which is harmless
// and rare: after ten thousand different invalidations within the life of a
// response, each of its names has a chance of one in two thousand of it. The other way round
// is impossible: no invalidation is ever forgotten or overlooked.
package epoch
