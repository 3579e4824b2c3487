/* What Reauthorize promises, in the language of spin: see README.md. The other model, session.pml, has
 * the generations of refresh tokens. This one has the epochs, and what the authorizer said.
 *
 * A user has the rights of before, and gets those of after. Then somebody calls Reauthorize. Beside it
 * calls of Refresh and Reauthenticate go on. The names are those of refresh.go and reauthorize.go.
 */

#ifndef CALLS
#define CALLS 2      /* of Refresh and Reauthenticate, beside Reauthorize */
#endif
#ifndef FAILURES
#define FAILURES 0   /* replies of the store that get lost */
#endif
#ifndef LOSSES
#define LOSSES 0     /* failovers: each takes back the last write, and takes time */
#endif
#ifndef RAISES
#define RAISES 1     /* 0: none of the calls raises the epoch by itself */
#endif
#ifndef MANAGERS
#define MANAGERS 1
#endif
#ifndef AHEAD
#define AHEAD 0      /* how far the clock of the second Manager is ahead */
#endif
#define ATTEMPTS 4   /* more than the others can disturb */

/* What a token leads to. */
#define ROTATED 0
#define REPLAYED 1   /* is not written, unless the epoch has to go up */
#define HEALED 2     /* raises the epoch by itself */
#define PROVED 3     /* Reauthenticate, which does so, too */

typedef record { byte version; byte write; byte epoch };

record rec, lost;    /* the store's, and what it had before the last write */
byte writes;         /* WriteIDs that were used */
byte denied[MANAGERS];
bit rights;          /* 0: of before */
bit returned;        /* Reauthorize has */
byte reauthorized;   /* the epoch that it left */
byte now = 3;        /* by the first Manager's clock. The epoch of a session that was never outdated is 0. */
byte failures, losses;

/* The claims. Each is set and asserted in one step, so that spin names it. */
bit old_rights_are_refused = 1;
bit new_rights_are_accepted = 1;

#define MAX(a, b) ((a) > (b) -> (a) : (b))
#define NEXT(e, m) MAX((e) + 1, now + (m) * AHEAD)

/* swap sets done if the write was applied, and told if its reply came. */
inline swap(from, to, done, told) {
	atomic {
		writes++;
		to = writes;
		done = (rec.version == from.version && rec.write == from.write);
		told = true;
		if
		:: done ->
			lost.version = rec.version; lost.write = rec.write; lost.epoch = rec.epoch;
			rec.version++; rec.write = to; rec.epoch = epoch
		:: else
		fi;
		if
		:: failures < FAILURES -> failures++; told = false
		:: true
		fi
	}
}

inline load(r) { r.version = rec.version; r.write = rec.write; r.epoch = rec.epoch }

proctype refresh(byte m; byte what) {
	record was;
	byte epoch, attempt, mine;
	bit said, after, done, told, asked;
	mine = 255; /* the WriteID of this call's write, if it may be in the store */
	do
	:: attempt < ATTEMPTS ->
		attempt++;
		atomic {
			load(was);
			if
			:: was.write == mine -> break /* it had failed in appearance only */
			:: else
			fi;
			after = returned;
			/* What this call has written is in the record, if others have written since. */
			if
			:: mine != 255 && what == PROVED -> what = REPLAYED
			:: else
			fi;
			epoch = MAX(was.epoch, denied[m]);
			if
			:: what == HEALED || what == PROVED -> epoch = NEXT(epoch, m)
			:: else
			fi
		}
		/* authorize */
#ifdef F_SAID_BEFORE
		if
		:: !asked -> said = rights; asked = true
		:: else
		fi;
#else
		said = rights;
#endif
		if
#ifdef F_REPLAY_NEVER_RAISES
		:: what == REPLAYED -> epoch = was.epoch; break
#else
		:: what == REPLAYED && epoch <= was.epoch -> break
#endif
		:: else
		fi;
		swap(was, mine, done, told);
		if
		:: told && done -> break
		:: told && !done -> mine = 255
		:: else
		fi
	:: else -> goto out
	od;
	/* The token is handed out. It is judged when Reauthorize has returned. */
	denied[m] = MAX(denied[m], epoch);
	atomic {
		(returned);
		old_rights_are_refused = (said == 1 || epoch < reauthorized); assert(old_rights_are_refused);
		new_rights_are_accepted = (!after || epoch >= reauthorized); assert(new_rights_are_accepted)
	}
out:
	skip
}

active proctype reauthorize() {
	record was;
	byte epoch, mine, attempt;
	bit done, told;
	mine = 255;
	rights = 1;
	do
	:: attempt < ATTEMPTS ->
		attempt++;
		atomic {
			load(was);
			if
			:: was.write == mine -> break
			:: else
			fi;
#ifdef F_ANOTHERS_EPOCH
			if
			:: attempt > 1 && was.epoch >= epoch -> break
			:: attempt > 1
			:: else -> epoch = NEXT(MAX(was.epoch, denied[0]), 0)
			fi
#else
			epoch = NEXT(MAX(was.epoch, denied[0]), 0)
#endif
		}
		swap(was, mine, done, told);
		if
		:: told && done -> break
		:: else
		fi
	:: else -> goto gaveup
	od;
	atomic {
#ifdef F_ANOTHERS_EPOCH
		epoch = MAX(epoch, was.epoch);
#endif
		denied[0] = MAX(denied[0], epoch);
		reauthorized = epoch;
		returned = true
	}
	goto end;
gaveup:
	(false);
end:
	skip
}

/* The feed, at any moment. */
active proctype feed() {
	byte m;
end:
	do
	:: m < MANAGERS -> atomic { denied[m] = MAX(denied[m], rec.epoch); m++ }
	:: m == MANAGERS -> m = 0
	od
}

active proctype failover() {
end:
	do
	:: atomic { losses < LOSSES && rec.version > lost.version ->
		losses++;
		now++;
		rec.version = lost.version; rec.write = lost.write; rec.epoch = lost.epoch }
	:: losses == LOSSES -> break
	od
}

active proctype calls() {
	byte n;
end:
	do
	:: n < CALLS ->
		n++;
		if
		:: run refresh(0, ROTATED)
		:: run refresh(0, REPLAYED)
		:: RAISES -> run refresh(0, HEALED)
		:: RAISES -> run refresh(0, PROVED)
#if MANAGERS > 1
		:: run refresh(1, ROTATED)
		:: run refresh(1, REPLAYED)
		:: RAISES -> run refresh(1, HEALED)
		:: RAISES -> run refresh(1, PROVED)
#endif
		fi
	:: n == CALLS -> break
	od
}
