package storetest

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/seed67bc9b7f/tokensession"
)

// A misplacedStore is asked at a place that has no records and accepts no write. It says so, unless
// a lie is told for the call.
type misplacedStore struct {
	lie string

	mu    sync.Mutex
	calls int
}

var errMisplaced = errors.New("this place could not be confirmed to be the master")

// answer returns what a method says, which is the error given after the method's name in the lie.
func (s *misplacedStore) answer(method string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls++
	lie, mine := strings.CutPrefix(s.lie, method+" ")
	if first, later := strings.CutSuffix(lie, ", after the first call"); later {
		lie, mine = first, mine && s.calls > 1
	}
	switch {
	case !mine:
		return errMisplaced
	case lie == "says ErrNotFound":
		return tokensession.ErrNotFound
	case lie == "says ErrExists":
		return tokensession.ErrExists
	case lie == "says ErrConflict":
		return tokensession.ErrConflict
	}
	return nil
}

func (s *misplacedStore) Create(context.Context, tokensession.Record) error {
	return s.answer("Create")
}

func (s *misplacedStore) Load(context.Context, string) (tokensession.Record, error) {
	return tokensession.Record{}, s.answer("Load")
}

func (s *misplacedStore) Swap(context.Context, tokensession.Record) error { return s.answer("Swap") }

func (s *misplacedStore) List(context.Context, string) ([]tokensession.Record, error) {
	return nil, s.answer("List")
}

func (s *misplacedStore) RevokeSubject(
	context.Context, tokensession.SubjectRevocation,
) ([]tokensession.Record, error) {
	return nil, s.answer("RevokeSubject")
}

// sharedConfirmation is a misplaced store in which only one of several loads at once asks for a
// confirmation. The others do not wait for its result, and give a verdict.
type sharedConfirmation struct {
	misplacedStore
	loading sync.Mutex
	company bool
	second  chan struct{}
}

func (s *sharedConfirmation) Load(context.Context, string) (tokensession.Record, error) {
	if !s.company {
		return tokensession.Record{}, errMisplaced
	}
	if s.loading.TryLock() {
		<-s.second
		return tokensession.Record{}, errMisplaced
	}
	select {
	case s.second <- struct{}{}:
	default:
	}
	return tokensession.Record{}, tokensession.ErrNotFound
}

func TestRunElsewhere_passesStoresThatSayTheyCannotTell(t *testing.T) {
	RunElsewhere(t, func(*testing.T) (master, elsewhere tokensession.RefreshStore) {
		return tokensession.NewMemoryStore(), &misplacedStore{}
	})
}

func TestRunElsewhere_passesStoresThatFindTheMaster(t *testing.T) {
	RunElsewhere(t, func(*testing.T) (master, elsewhere tokensession.RefreshStore) {
		store := tokensession.NewMemoryStore()
		return store, store
	})
}

func TestRunElsewhere_skipsRevokeSubjectOfStoresWithoutIt(t *testing.T) {
	for _, tc := range elsewhereCases {
		want := passed
		if strings.Contains(tc.name, "RevokeSubject") {
			want = skipped
		}
		elsewhere := struct{ tokensession.RefreshStore }{&misplacedStore{}}
		if r := recordElsewhere(t, tc, newFaultyStore(""), elsewhere); r.outcome != want {
			t.Errorf("case %q: %v, want %v: %q", tc.name, r.outcome, want, r.messages)
		}
	}
}

func TestRunElsewhere_findsEachLie(t *testing.T) {
	const load, loads = "Elsewhere/Load gives no verdict", "Elsewhere/Load gives no verdict to many at once"
	finds := map[string][]string{
		"Load says ErrNotFound":                            {load, loads},
		"Load says ErrNotFound, after the first call":      {load, loads},
		"Load gives an empty record":                       {load, loads},
		"Swap says ErrNotFound":                            {"Elsewhere/Swap gives no verdict"},
		"Swap says ErrConflict":                            {"Elsewhere/Swap gives no verdict"},
		"Swap says ErrConflict, after the first call":      {"Elsewhere/Swap gives no verdict"},
		"Swap loses the write":                             {"Elsewhere/Swap gives no verdict"},
		"List is empty":                                    {"Elsewhere/List is not empty"},
		"List is empty, after the first call":              {"Elsewhere/List is not empty"},
		"List says ErrNotFound":                            {"Elsewhere/List is not empty"},
		"RevokeSubject ends nothing":                       {"Elsewhere/RevokeSubject does not end nothing"},
		"RevokeSubject ends nothing, after the first call": {"Elsewhere/RevokeSubject does not end nothing"},
		"RevokeSubject says ErrNotFound":                   {"Elsewhere/RevokeSubject does not end nothing"},
		"Create loses the record":                          {"Elsewhere/Create loses no login"},
		"Create says ErrExists":                            {"Elsewhere/Create loses no login"},
	}
	for _, tc := range elsewhereCases {
		found := false
		for lie, by := range finds {
			want := passed
			if slices.Contains(by, tc.name) {
				want, found = failed, true
			}
			r := recordElsewhere(t, tc, newFaultyStore(""), &misplacedStore{lie: lie})
			if r.outcome != want {
				t.Errorf("case %q over a store whose %s: %v, want %v: %q", tc.name, lie, r.outcome, want, r.messages)
			}
			for _, message := range r.messages {
				if tc.reason == "" || !strings.HasSuffix(message, "\nwhy it matters: "+tc.reason) {
					t.Errorf("case %q says %q, without its reason", tc.name, message)
				}
			}
		}
		if !found {
			t.Errorf("no lie is found by case %q", tc.name)
		}

		want := passed
		if tc.name == loads {
			want = failed
		}
		elsewhere := &sharedConfirmation{company: tc.name == loads, second: make(chan struct{})}
		if r := recordElsewhere(t, tc, newFaultyStore(""), elsewhere); r.outcome != want {
			t.Errorf("case %q over a store that shares confirmations: %v, want %v", tc.name, r.outcome, want)
		}
	}
}
