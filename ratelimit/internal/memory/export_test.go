package memory

// Len returns the number of limits of all keys that are not idle, and of keys
// with an exact log or a quota.
func (s *Store) Len() (n int) {
	now := s.clock()
	for i := range s.shards {
		sh := &s.shards[i]
		sh.mu.Lock()
		n += sh.table.live(now) + len(sh.exact)
		sh.mu.Unlock()
	}
	return n
}
