package store

import (
	"errors"
	"fmt"
	"strings"

	"github.com/caddyserver/certmagic"
)

// Names of certmagic's locks, and where what they protect is stored.
const (
	lockCertificate = "issue_cert_"
	lockAccount     = "register_acme_account"
	certificates    = "certificates/"
	accounts        = "acme/"
	noContact       = "default"
)

// guards reports whether the lock of that name protects the entry: the lock for
// issuing a certificate its certificate, key and metadata, and the lock for
// registering an ACME account the account. certmagic does not say under which
// lock it writes, so the names must.
func guards(lock, key string) bool {
	if subject, ok := strings.CutPrefix(lock, lockCertificate); ok {
		return strings.HasPrefix(key, certificates) && hasComponent(key, certmagic.StorageKeys.Safe(subject))
	}
	if contact, ok := strings.CutPrefix(lock, lockAccount); ok {
		contact = certmagic.StorageKeys.Safe(strings.TrimPrefix(contact, "_"))
		if contact == "" {
			contact = noContact
		}
		return strings.HasPrefix(key, accounts) && hasComponent(key, contact)
	}
	return false
}

// hasComponent reports whether a key has a directory of that name.
func hasComponent(key, component string) bool {
	return component != "" && strings.Contains("/"+key, "/"+component+"/")
}

// guardOf returns the lock of this process that protects an entry, or nil.
func (s *Store) guardOf(key string) *held {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, h := range s.held {
		if h.stop != nil && guards(name, key) {
			return h
		}
	}
	return nil
}

// fenced notes whether an operation under a lock showed that the lock was lost,
// and names the lock in the error.
func (s *Store) fenced(h *held, key string, err error) error {
	switch {
	case h == nil:
		return err
	case err == nil:
		h.regain() // a lease that had ended is renewed
		return nil
	case !errors.Is(err, ErrFenced):
		return err
	}
	if h.lose() {
		s.o.Observe(Event{Kind: LockLost, Name: h.name})
	}
	if key == "" {
		return fmt.Errorf("lock %s: %w", h.name, err)
	}
	s.o.Observe(Event{Kind: Fenced, Name: key})
	return fmt.Errorf("%s: lock %s: %w", key, h.name, err)
}
