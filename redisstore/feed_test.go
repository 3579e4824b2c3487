package redisstore

import (
	"crypto/rand"
	"encoding/base64"
	"runtime"
	"testing"
	"time"

	"github.com/seed67bc9b7f/tokensession"
)

// In a storm of revocations the store remembers a hundred thousand of them, twice during a look.
func TestLook_remembersInLittleMemory(t *testing.T) {
	const most = 50 // bytes each
	before := heap()
	l := look{met: make(memory)}
	for range mostTold + 1000 {
		id := make([]byte, 16)
		_, _ = rand.Read(id)
		l.tell(nil, tokensession.Revocation{
			SessionID: base64.RawURLEncoding.EncodeToString(id), At: created,
		})
	}
	took := int(heap()-before) / mostTold
	if len(l.met) != mostTold {
		t.Errorf("%d revocations are remembered, want %d", len(l.met), mostTold)
	}
	if took > most {
		t.Errorf("a revocation that is remembered takes %d bytes, want %d at most", took, most)
	}
}

func heap() uint64 {
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return stats.HeapAlloc
}

// A revocation that is remembered is told of its own session alone, and with the same time.
func TestMemory_keepsIDsApart(t *testing.T) {
	const id = "AAAAAAAAAAAAAAAAAAAAAA"
	m := make(memory)
	m.add(id, created.Add(time.Microsecond))
	if at, ok := m.find(id); !ok || at != created.Add(time.Microsecond) {
		t.Errorf("the session was revoked at %v, %v; want %v", at, ok, created.Add(time.Microsecond))
	}
	for _, other := range []string{
		"AAAAAAAAAAAAAAAAAAAAAB", // the same bytes, with stray bits
		"AAAAAAAAAAAAAAAAAAAA\n\n", "AAAAAAAAAAAAAAAAAAAAA", "AAAAAAAAAAAAAAAAAAAAAAA", "", "by hand",
	} {
		if at, ok := m.find(other); ok {
			t.Errorf("%q was revoked at %v, want that it is not known", other, at)
		}
		m.add(other, created)
	}
	if at, _ := m.find(id); !at.Equal(created.Add(time.Microsecond)) || len(m) != 1 {
		t.Errorf("after other ids were added: %v, and %d are remembered", at, len(m))
	}
}

// A look at everything tells more than the store remembers. It must not replace what the looks at
// the last seconds remember, because then the next one of them would ask for every session anew.
func TestTold_keepsWhatSmallLooksRemember(t *testing.T) {
	var s told
	small, large := make(memory), make(memory, mostTold)
	small.add("AAAAAAAAAAAAAAAAAAAAAA", created)
	for n := range mostTold {
		large[[16]byte{byte(n), byte(n >> 8), byte(n >> 16)}] = 0
	}
	s.replace(small)
	s.replace(large)
	if len(s.remembered()) != len(small) {
		t.Errorf("%d revocations are remembered, want the small look's %d",
			len(s.remembered()), len(small))
	}
	s.replace(make(memory))
	if len(s.remembered()) != 0 {
		t.Errorf("%d revocations are remembered that the last look has not met", len(s.remembered()))
	}
}
