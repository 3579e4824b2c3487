package storetest

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	_ "time/tzdata" // one fault keeps local time

	"github.com/seed67bc9b7f/tokensession"
)

const (
	exact = false // no other case fails
	broad = true  // the fault is so coarse, or shows by chance in a race, that others may fail as well
)

// A bite says which cases find a fault.
type bite struct {
	fault fault
	broad bool
	found []string
}

var bites = []bite{
	{"Create overwrites", exact, []string{
		"Create/leaves an existing record as it is",
		"Create/lists nothing that it refused",
		"Create/does not undo later writes when repeated",
		"Create/has one winner of many at once",
		"Swap/keeps a revoked record until it expires",
	}},
	{"Create knows the first write for ever", exact, []string{
		"Create/does not undo later writes when repeated",
	}},
	{"Create says conflict", exact, []string{
		"Create/leaves an existing record as it is",
		"Create/lists nothing that it refused",
		"Create/does not undo later writes when repeated",
		"Create/has one winner of many at once",
		"Swap/keeps a revoked record until it expires",
	}},
	{"Create fails when repeated", exact, []string{"Create/may be repeated when its reply was lost"}},
	{"Create indexes what it refuses", exact, []string{"Create/lists nothing that it refused"}},
	{"Create checks, then writes", exact, []string{"Create/has one winner of many at once"}},
	{"Create refuses what has expired", exact, []string{
		"Expiry/takes a record that has expired already",
		"Expiry/does not keep for ever what had expired already",
		"Expiry/of one record leaves the subject's others alone",
	}},
	{"Load fails for what is unknown", exact, []string{
		"Load/says ErrNotFound of an unknown ID",
		"Load/tells IDs apart by every byte",
		"Swap/says ErrNotFound of an unknown ID and creates nothing",
		"Expiry/does not keep for ever what had expired already",
		"Sweep/drops what has expired and nothing else",
		"Sweep/goes by the expiry of the last write",
		"Context/ended before Create",
	}},
	{"Load gives nothing for what is unknown", exact, []string{
		"Load/says ErrNotFound of an unknown ID",
		"Load/tells IDs apart by every byte",
		"Swap/says ErrNotFound of an unknown ID and creates nothing",
		"Expiry/does not keep for ever what had expired already",
		"Sweep/drops what has expired and nothing else",
		"Sweep/goes by the expiry of the last write",
		"Context/ended before Create",
	}},
	{"Load fills the record beside its error", exact, []string{
		"Load/says ErrNotFound of an unknown ID",
	}},
	{"Load reads a replica that is behind", broad, []string{"Swap/replaces what a refresh changes"}},
	{"Swap creates", exact, []string{
		"Swap/says ErrNotFound of an unknown ID and creates nothing",
		"Sweep/goes by the expiry of the last write",
	}},
	{"Swap says conflict for what is unknown", broad, []string{
		"Swap/says ErrNotFound of an unknown ID and creates nothing",
	}},
	{"Swap checks, then writes", broad, []string{"Swap/has one winner of many at once"}},
	{"Swap revokes the subject's other sessions too", exact, []string{
		"Swap/leaves other records alone",
		"List/has the live ones after another was revoked",
		"Revocations/finds a late write with an earlier time",
		"Revocations/tells what was revoked in parallel",
	}},
	{"Swap acknowledges neither of two at once", broad, []string{
		"Swap/is applied once when sent twice at once",
	}},
	{"Swap is blind", broad, []string{
		"Swap/refuses any version but the next",
		"Swap/has one winner of many at once",
		"Swap/does not undo later writes when repeated",
		"Swap/never undoes a revocation",
	}},
	{"Swap takes any newer version", exact, []string{
		"Swap/refuses any version but the next",
		"Revocations/tells only revocations",
		"Swap/refuses the right version of another write",
	}},
	{"Swap goes by the version alone", exact, []string{
		"Swap/refuses the right version of another write",
	}},
	{"Swap goes by the version alone in a revocation", exact, []string{
		"Swap/refuses the right version of another write",
	}},
	{"Swap takes no Replaces for any", exact, []string{
		"Swap/refuses the right version of another write",
	}},
	{"Swap folds the case of WriteIDs", exact, []string{
		"Swap/refuses the right version of another write",
	}},
	{"Swap compares the beginning of WriteIDs", exact, []string{
		"Swap/refuses the right version of another write",
	}},
	{"Swap takes the WriteID before", exact, []string{
		"Swap/refuses the right version of another write",
	}},
	{"Swap acknowledges any write seen before", exact, []string{
		"Swap/does not undo later writes when repeated",
	}},
	{"Swap fails when repeated", exact, []string{
		"Swap/may be repeated when its reply was lost",
		"Swap/is applied once when sent twice at once",
	}},
	{"Swap counts again when repeated", exact, []string{
		"Swap/may be repeated when its reply was lost",
		"Swap/is applied once when sent twice at once",
	}},
	{"Swap returns nil on a conflict", broad, []string{
		"Swap/refuses any version but the next",
		"Swap/has one winner of many at once",
		"RevokeSubject/makes a refresh from before conflict",
	}},
	{"Swap undoes revocations", exact, []string{"Swap/never undoes a revocation"}},
	{"Swap rewrites revocations", exact, []string{"Swap/never undoes a revocation"}},
	{"Swap leaves Predecessor behind", broad, []string{"Swap/replaces what a refresh changes"}},
	{"Swap leaves RevokeReason behind", broad, []string{"Swap/replaces what a revocation changes"}},
	{"Swap leaves WriteID behind", broad, []string{
		"Swap/replaces what a refresh changes",
		"Swap/may be repeated when its reply was lost",
	}},
	{"Swap leaves Attributes behind", exact, []string{
		"Fields/attributes of any text",
		"Fields/no attributes",
		"Fields/attributes that a Swap replaces or removes",
	}},
	{"Swap merges Attributes", exact, []string{
		"Fields/attributes of any text",
		"Fields/no attributes",
		"Fields/attributes that a Swap replaces or removes",
	}},
	{"Swap leaves out what is zero", exact, []string{
		"Fields/no attributes",
		"Fields/attributes that a Swap replaces or removes",
		"Fields/client of any text, and every reason",
	}},
	{"revocation deletes", broad, []string{
		"Swap/replaces what a revocation changes",
		"Swap/keeps a revoked record until it expires",
	}},
	{"revocation takes the subject's index along", exact, []string{
		"List/has the live ones after another was revoked",
	}},
	{"List is empty", broad, []string{"List/has every live record"}},
	{"List has the first hundred", exact, []string{"List/has every live record"}},
	{"List has each twice", broad, []string{"List/has every live record"}},
	{"List says ErrNotFound for an unknown subject", exact, []string{
		"Create/lists nothing that it refused",
		"Swap/says ErrNotFound of an unknown ID and creates nothing",
		"List/has nothing of an unknown subject",
		"Expiry/does not keep for ever what had expired already",
		"Sweep/goes by the expiry of the last write",
		"Context/ended before Create",
	}},
	{"List of nobody is everybody's", exact, []string{"List/has nothing of an unknown subject"}},
	{"List puts the newest first", exact, []string{"List/puts the oldest first"}},
	{"List is in the order of writing", exact, []string{"List/puts the oldest first"}},
	{"List is in the order of expiry", exact, []string{"List/puts the oldest first"}},
	{"List has records as created", broad, []string{"List/has records as they are now"}},
	{"List shows revoked records as live", exact, []string{
		"List/has the live ones after another was revoked",
	}},
	{"List leaves out Key", broad, []string{"List/has every live record"}},
	{"List leaves out what was refreshed", broad, []string{"List/has records as they are now"}},
	{"subjects fold case", exact, []string{"List/tells subjects apart by every byte"}},
	{"subjects lose spaces", exact, []string{"List/tells subjects apart by every byte"}},
	{"subjects are prefixes", exact, []string{"List/tells subjects apart by every byte"}},
	{"subjects are cut", exact, []string{"List/tells subjects apart by every byte"}},
	{"subjects lose accents", exact, []string{"List/tells subjects apart by every byte"}},
	{"subjects are patterns", exact, []string{"List/tells subjects apart by every byte"}},
	{"subjects are numbers", exact, []string{"List/tells subjects apart by every byte"}},
	{"IDs fold case", exact, []string{"Load/tells IDs apart by every byte"}},
	{"IDs lose spaces", exact, []string{"Load/tells IDs apart by every byte"}},
	{"times are local", broad, []string{"Create/keeps every field", "Fields/times in UTC"}},
	{"time to live in whole seconds", exact, []string{"Expiry/is not early"}},
	{"time to live from the first write", exact, []string{"Expiry/is not early"}},
	{"time to live in nanoseconds", exact, []string{"Fields/expiry in the year 9999"}},
	{"times in seconds", broad, []string{
		"Create/keeps every field",
		"Fields/times to the microsecond",
		"List/puts the oldest first",
	}},
	{"times in milliseconds", broad, []string{
		"Create/keeps every field",
		"Fields/times to the microsecond",
		"List/puts the oldest first",
	}},
	{"times in floating seconds", broad, []string{
		"Create/keeps every field",
		"Fields/times to the microsecond",
	}},
	{"times come back in the writer's zone", exact, []string{
		"Fields/times in UTC",
		"Fields/time at which a session was outdated",
	}},
	{"times are local without an offset", exact, []string{
		"Fields/times at a change of daylight saving",
		"Fields/expiry in the year 9999",
	}},
	{"expired record takes the subject's index along", exact, []string{
		"Expiry/of one record leaves the subject's others alone",
	}},
	{"expiry cut to seconds", exact, []string{"Expiry/is not early"}},
	{"1970 is no time", exact, []string{
		"Fields/times before and after 1970",
		"Fields/time at which a session was outdated",
	}},
	{"zero times are 1970", broad, []string{"Create/keeps every field", "Fields/zero times"}},
	{"keys are text", broad, []string{"Create/keeps every field"}},
	{"keys end at a zero byte", broad, []string{"Fields/key of any bytes"}},
	{"numbers are floating", exact, []string{"Fields/large generations"}},
	{"numbers have 32 bits", exact, []string{"Fields/large generations"}},
	{"clients lose spaces", exact, []string{"Fields/client of any text, and every reason"}},
	{"no client is a client", exact, []string{"Fields/client of any text, and every reason"}},
	{"no attributes are an empty map", exact, []string{
		"Fields/no attributes",
		"Fields/attributes that a Swap replaces or removes",
	}},
	{"drops attributes", broad, []string{"Create/keeps every field"}},
	{"attributes have 16 bits a character", exact, []string{"Fields/attributes of any text"}},
	{"attributes fold case", exact, []string{"Fields/attributes of any text"}},
	{"empty attributes are left out", exact, []string{
		"Fields/attributes of any text",
		"Fields/attributes that a Swap replaces or removes",
	}},
	{"shares memory with writers", exact, []string{"Fields/no memory shared with the caller"}},
	{"shares memory with readers", exact, []string{"Fields/no memory shared with the caller"}},
	{"Swap leaves Issuer behind", exact, []string{
		"Fields/issuer of any text",
		"Fields/of a login that a Swap replaces or removes",
	}},
	{"Swap leaves IdleTTL behind", exact, []string{
		"Fields/idle time from a microsecond to a century",
		"Fields/of a login that a Swap replaces or removes",
	}},
	{"Swap keeps Actor if there is none", exact, []string{
		"Fields/of a login that a Swap replaces or removes",
	}},
	{"Swap keeps AuthMethods if there are none", exact, []string{
		"Fields/of a login that a Swap replaces or removes",
	}},
	{"Swap adds to AuthMethods", exact, []string{
		"Fields/authentication methods",
		"Fields/of a login that a Swap replaces or removes",
		"Fields/of a login that later writes leave alone",
		"RevokeSubject/changes nothing of a login",
	}},
	{"Swap keeps AuthContext if there is none", exact, []string{
		"Fields/of a login that a Swap replaces or removes",
	}},
	{"Swap keeps KeyThumbprint if there is none", exact, []string{
		"Fields/of a login that a Swap replaces or removes",
	}},
	{"Swap drops a KeyThumbprint that stays", exact, []string{
		"Fields/of a login that later writes leave alone",
		"RevokeSubject/changes nothing of a login",
	}},
	{"Swap sets no KeyThumbprint", exact, []string{
		"Fields/key thumbprint",
		"Fields/of a login that a Swap replaces or removes",
	}},
	{"Swap lowers no Epoch", exact, []string{"Fields/of a login that a Swap replaces or removes"}},
	{"Swap keeps OutdatedAt if there is none", exact, []string{
		"Fields/of a login that a Swap replaces or removes",
	}},
	{"Swap keeps Transient", exact, []string{"Fields/of a login that a Swap replaces or removes"}},
	{"Create keeps Replaces", exact, []string{"Fields/what a write replaces is not stored"}},
	{"Swap keeps Replaces", broad, []string{
		"Swap/replaces what a refresh changes",
		"Fields/what a write replaces is not stored",
	}},
	{"issuers lose their last slash", exact, []string{
		"Fields/issuer of any text",
		"RevokeSubject/leaves other issuers' sessions alone",
	}},
	{"issuers fold case", exact, []string{
		"Fields/issuer of any text",
		"RevokeSubject/leaves other issuers' sessions alone",
	}},
	{"drops actors", exact, []string{
		"Create/keeps every field",
		"Fields/actor and authentication context of any text",
		"Fields/of a login that a Swap replaces or removes",
		"Fields/of a login that later writes leave alone",
		"RevokeSubject/changes nothing of a login",
	}},
	{"actors lose spaces", exact, []string{"Fields/actor and authentication context of any text"}},
	{"contexts lose spaces", exact, []string{"Fields/actor and authentication context of any text"}},
	{"drops methods", exact, []string{
		"Create/keeps every field",
		"Fields/authentication methods",
		"Fields/of a login that a Swap replaces or removes",
		"Fields/no memory shared with the caller",
		"Fields/of a login that later writes leave alone",
		"RevokeSubject/changes nothing of a login",
	}},
	{"methods are a text with commas", exact, []string{"Fields/authentication methods"}},
	{"methods are a text with spaces", exact, []string{"Fields/authentication methods"}},
	{"methods are a set", exact, []string{"Fields/authentication methods"}},
	{"methods are sorted", exact, []string{
		"Create/keeps every field",
		"Fields/authentication methods",
		"Fields/of a login that a Swap replaces or removes",
		"Fields/of a login that later writes leave alone",
		"RevokeSubject/changes nothing of a login",
	}},
	{"thumbprints have 40 characters", exact, []string{
		"Create/keeps every field",
		"Fields/key thumbprint",
		"Fields/of a login that a Swap replaces or removes",
		"Fields/of a login that later writes leave alone",
		"RevokeSubject/changes nothing of a login",
	}},
	{"thumbprints fold case", exact, []string{
		"Create/keeps every field",
		"Fields/key thumbprint",
		"Fields/of a login that a Swap replaces or removes",
		"Fields/of a login that later writes leave alone",
		"RevokeSubject/changes nothing of a login",
	}},
	{"epochs are floating", exact, []string{"Fields/epoch, up to the largest"}},
	{"epochs have 32 bits", exact, []string{"Fields/epoch, up to the largest"}},
	{"outdated for as long as there is an epoch", exact, []string{
		"Fields/epoch, up to the largest",
		"Fields/time at which a session was outdated",
	}},
	{"OutdatedAt in seconds", broad, []string{
		"Create/keeps every field",
		"Fields/time at which a session was outdated",
	}},
	{"idle times in seconds", exact, []string{"Fields/idle time from a microsecond to a century"}},
	{"idle times in 32 bits of seconds", exact, []string{
		"Fields/idle time from a microsecond to a century",
	}},
	{"drops Transient", exact, []string{
		"Create/keeps every field",
		"Fields/transient or not",
		"Fields/of a login that a Swap replaces or removes",
		"Fields/of a login that later writes leave alone",
		"RevokeSubject/changes nothing of a login",
	}},
	{"shares methods with writers", exact, []string{"Fields/no memory shared with the caller"}},
	{"shares methods with readers", exact, []string{"Fields/no memory shared with the caller"}},
	{"no context is level 0", broad, []string{
		"Fields/actor and authentication context of any text",
		"Fields/of a login that a Swap replaces or removes",
	}},
	{"no methods are an empty list", broad, []string{
		"Fields/authentication methods",
		"Fields/of a login that a Swap replaces or removes",
	}},
	{"all sessions are transient", broad, []string{
		"Fields/transient or not",
		"Fields/of a login that a Swap replaces or removes",
	}},
	{"Sweep goes by the first expiry", broad, []string{"Sweep/goes by the expiry of the last write"}},
	{"Sweep ignores its limit", exact, []string{"Sweep/drops no more than its limit"}},
	{"Sweep checks, then drops", exact, []string{"Sweep/does not drop what is refreshed meanwhile"}},
	{"Sweep counts nothing", exact, []string{
		"Sweep/drops what has expired and nothing else",
		"Sweep/drops no more than its limit",
		"Sweep/goes by the expiry of the last write",
	}},
	{"Sweep spares what expires now", exact, []string{
		"Sweep/drops what has expired and nothing else",
		"Sweep/goes by the expiry of the last write",
	}},
	{"Sweep drops revoked records", exact, []string{"Sweep/keeps a revoked record until it expires"}},
	{"Sweep drops everything", broad, []string{"Sweep/drops what has expired and nothing else"}},
	{"Sweep drops nothing", exact, []string{
		"Expiry/does not keep for ever what had expired already",
		"Sweep/drops what has expired and nothing else",
		"Sweep/drops no more than its limit",
		"Sweep/goes by the expiry of the last write",
	}},
	{"Sweep drops by the second", exact, []string{"Sweep/drops what has expired and nothing else"}},
	{"feed tells what was only tried", exact, []string{
		"Revocations/tells only revocations",
		"Revocations/tells what RevokeSubject revoked",
	}},
	{"feed tells every write", exact, []string{
		"Revocations/tells only revocations",
		"Revocations/tells a revocation at once and exactly",
		"Revocations/tells that a session is outdated",
		"Revocations/tells nothing wrong when an outdated session is refreshed",
	}},
	{"feed cuts times to seconds", broad, []string{
		"Revocations/tells a revocation at once and exactly",
	}},
	{"feed keeps one an instant", exact, []string{
		"Revocations/tells all of one instant",
		"Revocations/tells for 24 hours",
		"Revocations/tells what was revoked in parallel",
		"Revocations/tells what RevokeSubject revoked",
	}},
	{"feed keeps a hundred", exact, []string{
		"Revocations/tells all of one instant",
		"Revocations/tells for 24 hours",
	}},
	{"feed loses one of two at once", broad, []string{
		"Revocations/tells what was revoked in parallel",
	}},
	{"feed leaves out equality", exact, []string{
		"Revocations/tells a revocation at once and exactly",
		"Revocations/tells again what it told before",
		"Revocations/finds a late write with an earlier time",
		"Revocations/tells all of one instant",
		"Revocations/tells for 24 hours",
		"Revocations/tells what was revoked in parallel",
		"Revocations/tells what RevokeSubject revoked",
		"Revocations/tells that a session is outdated",
		"Revocations/tells nothing wrong when an outdated session is refreshed",
		"Revocations/tells that an outdated session was revoked",
	}},
	{"feed goes forward only", exact, []string{
		"Revocations/tells a revocation at once and exactly",
		"Revocations/tells again what it told before",
		"Revocations/finds a late write with an earlier time",
		"Revocations/tells that a session is outdated",
		"Revocations/tells nothing wrong when an outdated session is refreshed",
		"Revocations/tells that an outdated session was revoked",
	}},
	{"feed forgets after an hour", exact, []string{"Revocations/tells for 24 hours"}},
	{"feed tells once", exact, []string{
		"Revocations/tells a revocation at once and exactly",
		"Revocations/tells again what it told before",
		"Revocations/finds a late write with an earlier time",
		"Revocations/tells that a session is outdated",
		"Revocations/tells nothing wrong when an outdated session is refreshed",
		"Revocations/tells that an outdated session was revoked",
	}},
	{"feed is in local time", broad, []string{"Revocations/tells a revocation at once and exactly"}},
	{"feed tells no outdating", exact, []string{
		"Revocations/tells that a session is outdated",
		"Revocations/tells nothing wrong when an outdated session is refreshed",
	}},
	{"feed tells an outdating as a revocation", exact, []string{
		"Revocations/tells that a session is outdated",
		"Revocations/tells nothing wrong when an outdated session is refreshed",
		"Revocations/tells that an outdated session was revoked",
	}},
	{"feed tells the epoch before", exact, []string{
		"Revocations/tells that a session is outdated",
		"Revocations/tells nothing wrong when an outdated session is refreshed",
		"Revocations/tells that an outdated session was revoked",
	}},
	{"feed tells an outdating at the time of the last refresh", exact, []string{
		"Revocations/tells that a session is outdated",
		"Revocations/tells nothing wrong when an outdated session is refreshed",
	}},
	{"feed tells an outdated session's revocation as an outdating", exact, []string{
		"Revocations/tells that an outdated session was revoked",
	}},
	{"feed tells an outdating anew at each refresh", exact, []string{
		"Revocations/tells nothing wrong when an outdated session is refreshed",
	}},
	{"feed takes a refresh of an outdated session for a revocation", exact, []string{
		"Revocations/tells nothing wrong when an outdated session is refreshed",
	}},
	{"feed forgets an outdating at the next write", exact, []string{
		"Revocations/tells nothing wrong when an outdated session is refreshed",
	}},
	{"feed goes on after an error of page", exact, []string{
		"Revocations/ends at an error of page and returns it",
		manyRevocationsCase,
	}},
	{"feed takes an error of page for the end", exact, []string{
		"Revocations/ends at an error of page and returns it",
		manyRevocationsCase,
	}},
	{"feed says another error than page", exact, []string{
		"Revocations/ends at an error of page and returns it",
		manyRevocationsCase,
	}},
	{"feed goes on after the time of a page's last", exact, []string{
		"Revocations/tells all of one instant",
		"Revocations/tells for 24 hours",
		manyRevocationsCase,
	}},
	{"feed has no more than two thousand", exact, []string{manyRevocationsCase}},
	{"feed gives all in one page", exact, []string{manyRevocationsCase}},
	// Whether another case finds these as well depends on which of two calls comes first.
	{"Notified forgets what comes between two calls", broad, []string{
		"Notified/returns at once for news before the call",
		"Notified/returns for every kind of news",
		"Context/ended before Notified",
	}},
	{"Notified looks once", broad, []string{"Notified/returns for news during the call"}},
	{"Notified does not tell of outdatings", exact, []string{
		"Notified/returns for every kind of news",
	}},
	{"Notified does not tell of RevokeSubject", exact, []string{
		"Notified/returns for every kind of news",
	}},
	{"Notified never waits", exact, []string{
		"Notified/waits until its context ends if there is no news",
	}},
	{"Notified takes its context's end for news", exact, []string{
		"Notified/waits until its context ends if there is no news",
	}},
	{"Notified says another error than its context", exact, []string{
		"Notified/waits until its context ends if there is no news",
	}},
	{"Notified tells before the feed has it", exact, []string{
		"Notified/comes when the feed has the news",
	}},
	{"RevokeSubject folds case", exact, []string{
		"RevokeSubject/tells subjects and kept IDs apart by every byte",
	}},
	{"RevokeSubject prolongs", exact, []string{"RevokeSubject/keeps what it ended until it is told to"}},
	{"RevokeSubject keeps for ever", exact, []string{"RevokeSubject/keeps what it ended until it is told to"}},
	{"RevokeSubject says ErrNotFound for an unknown subject", exact, []string{
		"RevokeSubject/does nothing for an unknown subject",
	}},
	{"RevokeSubject reads, then writes", exact, []string{
		"RevokeSubject/revokes what is refreshed meanwhile",
	}},
	{"RevokeSubject rewrites revocations", exact, []string{
		"RevokeSubject/leaves revoked and expired records as they are",
		"RevokeSubject/returns the same again when repeated",
	}},
	{"RevokeSubject returns nothing when repeated", exact, []string{
		"RevokeSubject/returns the same again when repeated",
	}},
	{"RevokeSubject returns what others revoked", exact, []string{
		"RevokeSubject/leaves revoked and expired records as they are",
		"RevokeSubject/returns the same again when repeated",
		"RevokeSubject/leaves other issuers' sessions alone",
	}},
	{"RevokeSubject does not count versions", broad, []string{
		"RevokeSubject/revokes every live record of the subject",
		"RevokeSubject/makes a refresh from before conflict",
	}},
	{"RevokeSubject drops KeyThumbprint", exact, []string{
		"RevokeSubject/changes nothing of a login",
	}},
	{"RevokeSubject is not told by the feed", exact, []string{
		"Revocations/tells what RevokeSubject revoked",
	}},
	{"RevokeSubject returns records as they were", broad, []string{
		"RevokeSubject/revokes every live record of the subject",
	}},
	{"RevokeSubject goes by its own time", broad, []string{
		"RevokeSubject/revokes no record at a time before its last refresh",
	}},
	{"RevokeSubject ignores issuers", exact, []string{
		"RevokeSubject/leaves other issuers' sessions alone",
	}},
	{"RevokeSubject folds the case of issuers", exact, []string{
		"RevokeSubject/leaves other issuers' sessions alone",
	}},
	{"RevokeSubject takes issuers for prefixes", exact, []string{
		"RevokeSubject/leaves other issuers' sessions alone",
	}},
	{"RevokeSubject goes by the first issuer", exact, []string{
		"RevokeSubject/revokes the sessions of every issuer named",
	}},
	{"RevokeSubject ignores keep", exact, []string{
		"RevokeSubject/leaves out what is to be kept",
		"RevokeSubject/returns the same again when repeated",
	}},
	{"RevokeSubject folds the case of keep", exact, []string{
		"RevokeSubject/tells subjects and kept IDs apart by every byte",
	}},
	{"RevokeSubject misses what was refreshed", broad, []string{
		"RevokeSubject/revokes every live record of the subject",
	}},
	{"RevokeSubject revokes what has expired", exact, []string{
		"RevokeSubject/leaves revoked and expired records as they are",
	}},
	{"ignores the context", exact, []string{
		"Context/ended before Create",
		"Context/ended before Load",
		"Context/ended before Swap",
		"Context/ended before List",
		"Context/ended before Sweep",
		"Context/ended before Revocations",
		"Context/ended before RevokeSubject",
		"Context/ended before Notified",
	}},
	{"calls an ended context a conflict", exact, []string{
		"Context/ended before Create",
		"Context/ended before Load",
		"Context/ended before Swap",
		"Context/ended before List",
		"Context/ended before Sweep",
		"Context/ended before Revocations",
		"Context/ended before RevokeSubject",
		"Context/ended before Notified",
	}},
	{"Create ignores the context", exact, []string{"Context/ended before Create"}},
	{"Load ignores the context", exact, []string{"Context/ended before Load"}},
	{"Swap ignores the context", exact, []string{"Context/ended before Swap"}},
	{"List ignores the context", exact, []string{"Context/ended before List"}},
	{"Sweep ignores the context", exact, []string{"Context/ended before Sweep"}},
	{"Revocations ignores the context", exact, []string{"Context/ended before Revocations"}},
	{"Notified ignores the context", exact, []string{"Context/ended before Notified"}},
	{"RevokeSubject ignores the context", exact, []string{"Context/ended before RevokeSubject"}},
}

// slowCase waits in real time, whatever the store.
const slowCase = "Expiry/is not early"

// worthIt reports whether a case is run over a fault that it need not find. Slow ones are not,
// unless the fault is of their own subject.
func worthIt(tc testCase, b bite) bool {
	const notified = "Notified"
	if tc.name == slowCase || tc.name == manyRevocationsCase {
		return false
	}
	ofNotifier := strings.HasPrefix(string(b.fault), notified)
	return !b.broad && (ofNotifier || !strings.Contains(tc.name, notified))
}

// store returns a store with the fault, for a case.
func (b bite) store(tc testCase) *faultyStore {
	store := newFaultyStore(b.fault)
	store.company = slices.Contains(b.found, tc.name)
	return store
}

func TestRun_findsEachFault(t *testing.T) {
	results := make([]map[string]*recorder, len(bites))
	var wg sync.WaitGroup
	atOnce := make(chan struct{}, 8)
	for i, b := range bites {
		wg.Go(func() {
			atOnce <- struct{}{}
			defer func() { <-atOnce }()
			results[i] = make(map[string]*recorder)
			for _, tc := range allCases() {
				if slices.Contains(b.found, tc.name) || worthIt(tc, b) {
					results[i][tc.name] = record(t, tc, b.store(tc))
				}
			}
		})
	}
	wg.Wait()

	for i, b := range bites {
		t.Run(string(b.fault), func(t *testing.T) {
			for _, name := range b.found {
				if r := results[i][name]; r == nil || r.outcome != failed {
					t.Errorf("case %q does not find it", name)
				}
			}
			for name, r := range results[i] {
				if r.outcome == failed && !slices.Contains(b.found, name) {
					t.Errorf("case %q fails as well: %q", name, r.messages)
				}
			}
		})
	}
}

func TestRun_hasNoCaseThatCannotFail(t *testing.T) {
	for _, tc := range allCases() {
		if !slices.ContainsFunc(bites, func(b bite) bool { return slices.Contains(b.found, tc.name) }) {
			t.Errorf("no fault is found by case %q", tc.name)
		}
	}
}

func TestRun_saysWhyItMatters(t *testing.T) {
	var wg sync.WaitGroup
	for _, tc := range allCases() {
		i := slices.IndexFunc(bites, func(b bite) bool { return slices.Contains(b.found, tc.name) })
		if i < 0 || tc.name == slowCase {
			continue
		}
		wg.Go(func() {
			r := record(t, tc, bites[i].store(tc))
			if len(r.messages) == 0 {
				t.Errorf("case %q says nothing", tc.name)
			}
			for _, message := range r.messages {
				if tc.reason == "" || !strings.HasSuffix(message, "\nwhy it matters: "+tc.reason) {
					t.Errorf("case %q says %q, without its reason", tc.name, message)
				}
			}
		})
	}
	wg.Wait()
}

// cachedStore is one of several on the same records, with a cache of its own.
type cachedStore struct {
	*faultyStore
	cache sync.Map
}

func (s *cachedStore) Load(ctx context.Context, id string) (tokensession.Record, error) {
	if rec, ok := s.cache.Load(id); ok {
		return clone(rec.(tokensession.Record)), nil
	}
	rec, err := s.faultyStore.Load(ctx, id)
	if err == nil {
		s.cache.Store(id, clone(rec))
	}
	return rec, err
}

func (s *cachedStore) Swap(ctx context.Context, next tokensession.Record) error {
	s.cache.Delete(next.ID)
	return s.faultyStore.Swap(ctx, next)
}

func TestRunShared_findsWhatAStoreKnowsByItself(t *testing.T) {
	tc := allCases()[slices.IndexFunc(allCases(), func(tc testCase) bool { return tc.name == "Swap/replaces what a refresh changes" })]
	database := newFaultyStore("")
	alone := &cachedStore{faultyStore: database}
	if r := record(t, tc, alone); r.outcome != passed {
		t.Errorf("one store: %v, %q", r.outcome, r.messages)
	}
	for name, c := range map[string]struct {
		stores []tokensession.RefreshStore
		want   outcome
	}{
		"with a cache each": {[]tokensession.RefreshStore{alone, &cachedStore{faultyStore: database}}, failed},
		"without":           {[]tokensession.RefreshStore{database, database}, passed},
	} {
		if r := record(t, tc, &shared{stores: c.stores}); r.outcome != c.want {
			t.Errorf("two stores %s: %v, %q", name, r.outcome, r.messages)
		}
	}
}

func TestRunShared_passesStoresOnTheSameRecords(t *testing.T) {
	RunShared(t, func(*testing.T) []tokensession.RefreshStore {
		store := newFaultyStore("")
		return []tokensession.RefreshStore{store, store, store}
	})
}

// ownNews is one of several stores on the same records. It hears only of its own writes.
type ownNews struct {
	*faultyStore
	news chan struct{}
}

func newOwnNews(database *faultyStore) *ownNews {
	return &ownNews{faultyStore: database, news: make(chan struct{}, 1)}
}

func (s *ownNews) Swap(ctx context.Context, next tokensession.Record) error {
	err := s.faultyStore.Swap(ctx, next)
	s.tell()
	return err
}

func (s *ownNews) RevokeSubject(
	ctx context.Context, r tokensession.SubjectRevocation,
) ([]tokensession.Record, error) {
	recs, err := s.faultyStore.RevokeSubject(ctx, r)
	s.tell()
	return recs, err
}

func (s *ownNews) tell() {
	select {
	case s.news <- struct{}{}:
	default:
	}
}

func (s *ownNews) Notified(ctx context.Context) error {
	select {
	case <-s.news:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func TestRunShared_findsANotifierThatHearsOnlyItself(t *testing.T) {
	t.Parallel()
	for _, tc := range notifiedCases {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			alone := newOwnNews(newFaultyStore(""))
			if r := record(t, tc, alone); r.outcome != passed {
				t.Errorf("one store: %v, %q", r.outcome, r.messages)
			}
			want := failed
			if tc.name == "Notified/waits until its context ends if there is no news" {
				want = passed
			}
			database := newFaultyStore("")
			stores := []tokensession.RefreshStore{newOwnNews(database), newOwnNews(database)}
			if r := record(t, tc, &shared{stores: stores}); r.outcome != want {
				t.Errorf("two stores: %v, want %v: %q", r.outcome, want, r.messages)
			}
		})
	}
}

// ownExpiry is a store that nobody sweeps, which does that itself if it has a limit.
type ownExpiry struct {
	tokensession.RefreshStore
	sweeper tokensession.Sweeper
	limit   int
}

func (s *ownExpiry) List(ctx context.Context, subject string) ([]tokensession.Record, error) {
	_, _ = s.sweeper.Sweep(ctx, time.Now(), s.limit)
	return s.RefreshStore.List(ctx, subject)
}

func TestRunExpiry_findsStoresThatKeepEverything(t *testing.T) {
	for limit, want := range map[int]outcome{0: failed, 100: passed} {
		store := newFaultyStore("")
		if r := record(t, expiresByItself(time.Second), &ownExpiry{store, store, limit}); r.outcome != want {
			t.Errorf("a store that drops %d: %v, want %v: %q", limit, r.outcome, want, r.messages)
		}
	}
	RunExpiry(t, time.Second, func(*testing.T) tokensession.RefreshStore {
		store := newFaultyStore("")
		return &ownExpiry{store, store, 100}
	})
}

func TestRun_skipsWhatStoreDoesNotOffer(t *testing.T) {
	for _, tc := range allCases() {
		if tc.name == slowCase {
			continue
		}
		wanted := passed
		for _, optional := range []string{"Sweep", "Revocations", "Notified", "RevokeSubject"} {
			if strings.HasPrefix(tc.name, optional+"/") || tc.name == "Context/ended before "+optional {
				wanted = skipped
			}
		}
		if tc.name == "Expiry/does not keep for ever what had expired already" {
			wanted = skipped
		}
		store := struct{ tokensession.RefreshStore }{newFaultyStore("")}
		if r := record(t, tc, store); r.outcome != wanted {
			t.Errorf("case %q over a store with the four methods only: %v, want %v: %q", tc.name, r.outcome, wanted, r.messages)
		}
	}
}
