package storetest

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/seed67bc9b7f/tokensession"
)

const day = 24 * time.Hour

// newID returns an ID as a Manager makes them, for sessions and for writes.
func newID() string {
	b := make([]byte, 16)
	_, _ = rand.Read(b) // never fails
	return base64.RawURLEncoding.EncodeToString(b)
}

const issuer = "https://auth.example"

// newRecord returns a session that has just begun.
func (c *check) newRecord(subject string) tokensession.Record {
	key := make([]byte, 32)
	_, _ = rand.Read(key) // never fails
	return tokensession.Record{
		ID: newID(), Version: 1, WriteID: newID(),
		Issuer: issuer, Subject: subject, ClientID: "web", IdleTTL: 7 * day,
		Attributes: map[string]string{"device": "Firefox on Linux", "ip": "203.0.113.7"},
		Key:        key, AuthTime: c.now.Add(-time.Minute), CreatedAt: c.now, RotatedAt: c.now,
		ExpiresAt: c.now.Add(7 * day), MaxExpiresAt: c.now.Add(30 * day),
	}
}

// rotated returns the record that a refresh writes over rec.
func rotated(rec tokensession.Record) tokensession.Record {
	next := clone(rec)
	next.Version, next.WriteID, next.Replaces = rec.Version+1, newID(), rec.WriteID
	next.Predecessor, next.Generation = rec.Generation, rec.Generation+1
	next.RotatedAt = rec.RotatedAt.Add(time.Second)
	next.ConsumedAt = next.RotatedAt
	next.ExpiresAt = rec.ExpiresAt.Add(time.Second)
	return next
}

// revoked returns the record that a revocation writes over rec.
func revoked(rec tokensession.Record, at time.Time, reason tokensession.Reason) tokensession.Record {
	next := clone(rec)
	next.Version, next.WriteID, next.Replaces = rec.Version+1, newID(), rec.WriteID
	next.RevokedAt, next.RevokeReason = at, reason
	return next
}

// outdated returns the record that is written over rec to outdate its access tokens.
func outdated(rec tokensession.Record, at time.Time) tokensession.Record {
	next := clone(rec)
	next.Version, next.WriteID, next.Replaces = rec.Version+1, newID(), rec.WriteID
	next.Epoch, next.OutdatedAt = rec.Epoch+1, at
	return next
}

func clone(rec tokensession.Record) tokensession.Record {
	rec.Attributes, rec.Key = maps.Clone(rec.Attributes), slices.Clone(rec.Key)
	rec.AuthMethods = slices.Clone(rec.AuthMethods)
	return rec
}

func (c *check) create(rec tokensession.Record) tokensession.Record {
	c.t.Helper()
	if err := c.store.Create(c.ctx, clone(rec)); err != nil {
		c.fatalf("Create of a new record: %v", err)
	}
	return rec
}

// created creates a new record of the subject.
func (c *check) created(subject string) tokensession.Record {
	c.t.Helper()
	return c.create(c.newRecord(subject))
}

// ended creates a new record of the subject, and revokes it as of a time.
func (c *check) ended(subject string, at time.Time) tokensession.Record {
	c.t.Helper()
	return c.swap(revoked(c.created(subject), at, tokensession.ReasonLogout))
}

func (c *check) swap(next tokensession.Record) tokensession.Record {
	c.t.Helper()
	if err := c.store.Swap(c.ctx, clone(next)); err != nil {
		c.fatalf("Swap of version %d by version %d: %v", next.Version-1, next.Version, err)
	}
	return next
}

func (c *check) load(id string) tokensession.Record {
	c.t.Helper()
	rec, err := c.store.Load(c.ctx, id)
	if err != nil {
		c.fatalf("Load of a record that the store holds: %v", err)
	}
	return rec
}

func (c *check) list(subject string) []tokensession.Record {
	c.t.Helper()
	recs, err := c.store.List(c.ctx, subject)
	if err != nil {
		c.fatalf("List(%q): %v", subject, err)
	}
	return recs
}

// wantStored fails unless the store holds exactly want.
func (c *check) wantStored(want tokensession.Record, when string) {
	c.t.Helper()
	got, err := c.store.Load(c.ctx, want.ID)
	if err != nil {
		c.errorf("Load %s: %v", when, err)
	} else if d := diff(got, want); d != "" {
		c.errorf("Load %s: %s", when, d)
	}
}

// wantMissing fails unless the store holds no such record, neither by ID nor in the subject's list.
func (c *check) wantMissing(id, subject, when string) {
	c.t.Helper()
	if _, err := c.store.Load(c.ctx, id); !errors.Is(err, tokensession.ErrNotFound) {
		c.errorf("Load %s: error %v, want ErrNotFound", when, err)
	}
	if indexOf(c.list(subject), id) >= 0 {
		c.errorf("List %s: it is listed", when)
	}
}

func (c *check) wantError(err, want error, what string) {
	c.t.Helper()
	if !errors.Is(err, want) {
		c.errorf("%s: error %v, want %v", what, err, want)
	}
}

// wantListed fails unless the subject's list has each of live, as it is here. It may have others
// too, and no record besides.
func (c *check) wantListed(subject string, live []tokensession.Record, others ...tokensession.Record) {
	c.t.Helper()
	got := c.list(subject)
	for _, want := range live {
		if i := indexOf(got, want.ID); i < 0 {
			c.errorf("List(%q) of %d records lacks a live one", subject, len(got))
		} else if d := diff(got[i], want); d != "" {
			c.errorf("List(%q): %s", subject, d)
		}
	}
	known := slices.Concat(live, others)
	for i, rec := range got {
		if indexOf(known, rec.ID) < 0 {
			c.errorf("List(%q) has a record that was never written for it, its subject is %q",
				subject, rec.Subject)
		}
		if indexOf(got, rec.ID) != i {
			c.errorf("List(%q) has a record twice", subject)
		}
	}
}

func indexOf(recs []tokensession.Record, id string) int {
	return slices.IndexFunc(recs, func(r tokensession.Record) bool { return r.ID == id })
}

// diff says in which fields two records differ, and where a time is not in UTC. Replaces is not
// stored.
func diff(got, want tokensession.Record) string {
	var out []string
	want.Replaces = ""
	g, w := reflect.ValueOf(got), reflect.ValueOf(want)
	for i := range g.NumField() {
		name := g.Type().Field(i).Name
		switch gv := g.Field(i).Interface().(type) {
		case time.Time:
			if wv := w.Field(i).Interface().(time.Time); !gv.Equal(wv) {
				out = append(out, fmt.Sprintf("%s is %v, want %v", name, gv.Format(time.RFC3339Nano), wv.Format(time.RFC3339Nano)))
			} else if _, offset := gv.Zone(); gv.Location() != time.UTC || offset != 0 {
				out = append(out,
					fmt.Sprintf("%s is in the time zone %v, want UTC", name, gv.Location()))
			}
		default:
			if wv := w.Field(i).Interface(); !reflect.DeepEqual(gv, wv) {
				out = append(out, fmt.Sprintf("%s is %#v, want %#v", name, gv, wv))
			}
		}
	}
	return strings.Join(out, "; ")
}

// parallel calls f n times at once, with 0 to n-1, and waits for all.
func parallel(n int, f func(i int)) {
	var ready, done sync.WaitGroup
	ready.Add(n)
	for i := range n {
		done.Go(func() {
			ready.Done()
			ready.Wait()
			f(i)
		})
	}
	done.Wait()
}
