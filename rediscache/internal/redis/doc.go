// Package redis is the second tier of the cache, which all gateways share, and
// carries invalidations between them.
//
// Nothing here makes a request fail, and nothing makes it wait for longer than
// the budget: a Redis that is unreachable, slow, full or has invalid values is a
// cache miss. Writes are made in the background.
//
// The keys of one primary key are in one slot of a Cluster, by their hash tag:
//
//	<prefix>:cache:{<hash>}:i            a hash: the stored variants
//	<prefix>:cache:{<hash>}:v:<variant>  a variant: its head and, if short, body
//	<prefix>:cache:{<hash>}:c:<variant>:<n>  a part of a long body
//
// Each key expires at the last useful moment of what it holds. Any of them may
// be evicted at any time.
package redis
