package storetest

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/seed67bc9b7f/tokensession/keyring"
)

func TestRunKeys_passesMemoryStore(t *testing.T) {
	RunKeys(t, func(*testing.T) keyring.Store { return keyring.NewMemoryStore() })
}

// A faultyKeys is a plain store of keys with one fault.
type faultyKeys struct {
	fault string
	mu    sync.Mutex
	keys  []keyring.SealedKey
}

func (s *faultyKeys) has(fault string) bool { return s.fault == fault }

func (s *faultyKeys) id(id string) string {
	if s.has("folds the case of IDs") {
		return strings.ToLower(id)
	}
	return id
}

func (s *faultyKeys) indexOf(id string) int {
	return slices.IndexFunc(s.keys, func(k keyring.SealedKey) bool { return s.id(k.ID) == s.id(id) })
}

func (s *faultyKeys) Keys(ctx context.Context) ([]keyring.SealedKey, error) {
	if err := ctx.Err(); err != nil && !s.has("Keys ignores the context") {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.keys) == 0 && s.has("Keys fails where there are none") {
		return nil, errPlain
	}
	if s.has("Keys lends its memory") {
		return s.keys, nil
	}
	keys := slices.Clone(s.keys)
	for i := range keys {
		keys[i].Sealed = slices.Clone(keys[i].Sealed)
		if s.has("Keys cuts times") {
			keys[i].SignFrom = keys[i].SignFrom.Truncate(1e6)
		}
		if s.has("Keys makes text of what is sealed") {
			keys[i].Sealed = []byte(strings.ToValidUTF8(string(keys[i].Sealed), "?"))
		}
	}
	return keys, nil
}

func (s *faultyKeys) AddKey(ctx context.Context, key keyring.SealedKey) error {
	if err := ctx.Err(); err != nil && !s.has("AddKey ignores the context") {
		if s.has("AddKey calls an ended context a refusal") {
			return errors.Join(keyring.ErrExists, err)
		}
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if i := s.indexOf(key.ID); i >= 0 {
		switch {
		case s.has("AddKey refuses a repeat"):
			return keyring.ErrExists
		case s.has("AddKey ignores a repeat"):
		case s.has("AddKey replaces all"):
			s.keys[i] = key
		default:
			s.keys[i].Sealed = slices.Clone(key.Sealed)
		}
		return nil
	}
	if s.refuses(key.Predecessor) {
		if s.has("AddKey says nothing") {
			return nil
		}
		return keyring.ErrExists
	}
	if s.has("AddKey looks, then writes") {
		s.mu.Unlock()
		for range 100 {
			runtime.Gosched()
		}
		s.mu.Lock()
	}
	if !s.has("AddKey keeps the caller's memory") {
		key.Sealed = slices.Clone(key.Sealed)
	}
	s.keys = append(s.keys, key)
	return nil
}

func (s *faultyKeys) refuses(predecessor string) bool {
	if predecessor == "" {
		if s.has("AddKey takes a second first key where the first is gone") {
			return slices.ContainsFunc(s.keys, func(k keyring.SealedKey) bool { return k.Predecessor == "" })
		}
		return len(s.keys) > 0 && !s.has("AddKey takes any first key")
	}
	taken := slices.ContainsFunc(s.keys, func(k keyring.SealedKey) bool { return k.Predecessor == predecessor })
	unknown := s.indexOf(predecessor) < 0
	return taken && !s.has("AddKey takes any successor") || unknown && !s.has("AddKey takes any predecessor")
}

func (s *faultyKeys) DropKey(ctx context.Context, id string) error {
	if err := ctx.Err(); err != nil && !s.has("DropKey ignores the context") {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	i := s.indexOf(id)
	switch {
	case s.has("DropKey does nothing"):
	case i < 0 && s.has("DropKey fails for what is gone"):
		return errPlain
	case i >= 0 && s.has("DropKey drops the older ones, too"):
		s.keys = s.keys[i+1:]
	case i >= 0:
		s.keys = slices.Delete(s.keys, i, i+1)
	}
	return nil
}

func TestRunKeys_findsEachFault(t *testing.T) {
	for fault, found := range map[string]string{
		"":                                                        "",
		"folds the case of IDs":                                   "AddKey/tells IDs apart by every byte",
		"Keys ignores the context":                                "Context/ended",
		"Keys fails where there are none":                         "Keys/of an empty store",
		"Keys lends its memory":                                   "Keys/share no memory with the caller",
		"Keys cuts times":                                         "AddKey/keeps every bit",
		"Keys makes text of what is sealed":                       "AddKey/keeps every bit",
		"AddKey ignores the context":                              "Context/ended",
		"AddKey calls an ended context a refusal":                 "Context/ended",
		"AddKey refuses a repeat":                                 "AddKey/may be repeated when its reply was lost",
		"AddKey ignores a repeat":                                 "AddKey/of a key that is there replaces what is sealed, and no more",
		"AddKey replaces all":                                     "AddKey/of a key that is there replaces what is sealed, and no more",
		"AddKey says nothing":                                     "AddKey/makes one successor of each key",
		"AddKey looks, then writes":                               "AddKey/has one winner of fifty at once",
		"AddKey keeps the caller's memory":                        "Keys/share no memory with the caller",
		"AddKey takes any first key":                              "AddKey/makes one first key",
		"AddKey takes any successor":                              "AddKey/makes one successor of each key",
		"AddKey takes any predecessor":                            "AddKey/makes no successor of what is not there",
		"AddKey takes a second first key where the first is gone": "AddKey/makes no successor of what is not there",
		"DropKey ignores the context":                             "Context/ended",
		"DropKey does nothing":                                    "DropKey/removes one key for good",
		"DropKey fails for what is gone":                          "DropKey/removes one key for good",
		"DropKey drops the older ones, too":                       "DropKey/removes one key for good",
	} {
		t.Run(fault, func(t *testing.T) {
			var failing []string
			for _, kc := range keyCases {
				r := recordKeys(t, kc, &faultyKeys{fault: fault})
				if r.outcome != failed {
					continue
				}
				failing = append(failing, kc.name)
				for _, m := range r.messages {
					if !strings.Contains(m, "why it matters: "+kc.reason) {
						t.Errorf("%s does not say why: %s", kc.name, m)
					}
				}
			}
			if found == "" && failing != nil || found != "" && !slices.Contains(failing, found) {
				t.Errorf("found by %q, want %q", failing, found)
			}
		})
	}
}

func recordKeys(t *testing.T, kc keyCase, store keyring.Store) *recorder {
	r := &recorder{t: t, outcome: passed}
	done := make(chan struct{})
	go func() {
		defer close(done)
		kc.run(newKeyCheck(r, store, kc.reason))
	}()
	<-done
	return r
}
