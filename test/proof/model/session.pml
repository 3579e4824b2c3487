/*
 * One session in a store, an honest client of two tabs, a thief, a logout, a clock, and a store that loses replies and
 * writes. README.md says what is claimed, what is left out, and which scenes check.sh runs.
 *
 * The names are those of rotation.go and session.go. A token is its generation: one generation is always one string.
 * What begins with F_ is a fault, with L_ a limit: an assumption dropped that a claim needs.
 */

/* What a scene is made of. */
#ifndef TABS
#define TABS 2       /* refreshes of the honest client that can go on at once */
#endif
#ifndef CALLS
#define CALLS 4      /* refreshes by the honest client */
#endif
#ifndef THEFTS
#define THEFTS 0     /* refreshes by the thief; 0: there is none */
#endif
#ifndef LOGOUTS
#define LOGOUTS 0
#endif
#ifndef TICKS
#define TICKS 4
#endif
#ifndef FAILURES
#define FAILURES 0   /* calls of the store that fail */
#endif
#ifndef LOSSES
#define LOSSES 0     /* failovers */
#endif
#ifndef DEPTH
#define DEPTH 1      /* writes that one of them loses, at most: 1 or 2 */
#endif
#ifndef INSTANCES
#define INSTANCES 1
#endif
#ifndef GRACE
#define GRACE 2      /* in ticks; 0: strict */
#endif
#ifndef RECOVERY
#define RECOVERY 0   /* in ticks; 0: off */
#endif

#define START (1 + GRACE + RECOVERY)
#define END (START + TICKS)
#define THIEF TABS
#define HONEST_ONLY (THEFTS == 0 && LOGOUTS == 0)

/* The outcomes of decide. */
#define ROTATED 1
#define HEALED 2
#define REPLAYED 3
#define RECOVERED 4
#define REUSED 5
#define REVOKED 6
#define RACED 7

typedef Record {
	byte version, generation, predecessor, consumedAt, rotatedAt, writeID;
	bit revoked;
	/* For the claims; no decision looks at these. */
	byte made;    /* when the live generation was made */
	byte spent;   /* when the predecessor was first used */
	bit thiefs    /* whether the thief made the live generation */
};

inline copy(to, from) {
	to.version = from.version; to.generation = from.generation; to.predecessor = from.predecessor;
	to.consumedAt = from.consumedAt; to.rotatedAt = from.rotatedAt; to.writeID = from.writeID;
	to.revoked = from.revoked; to.made = from.made; to.spent = from.spent; to.thiefs = from.thiefs
}

inline clear(rec) {
	rec.version = 0; rec.generation = 0; rec.predecessor = 0; rec.consumedAt = 0; rec.rotatedAt = 0; rec.writeID = 0;
	rec.revoked = 0; rec.made = 0; rec.spent = 0; rec.thiefs = 0
}

/* The store, and what a failover can bring back. */
Record stored;
#if LOSSES > 0
Record before[DEPTH];
byte kept;               /* how many of these there are */
#endif
byte losses = LOSSES, failures = FAILURES;

/* The instances' memories. A WriteID is the number of the call. */
#define ENDING 32        /* added to it: the WriteID with which the call ends the session */
bit denied[INSTANCES];
short unanswered[INSTANCES];    /* a bit for each WriteID */

/* The client, and the thief. */
byte calls, thefts;
byte jar, jarSince;
byte underWay[TABS];     /* one more than the token of a request that no instance has looked at yet; 0: there is none */
byte running[TABS + 1];  /* the WriteID of the call that goes on; 0: there is none */
bit stolen;
byte held;               /* a bit for each generation the thief has */

byte now = START;

/*
 * The claims. Each is set and asserted in one step, so that spin names it. What a request must not be answered for is
 * noted when it is sent, and forgotten when the store loses what it followed from.
 */
bit one_live_successor = 1;
bit honest_client_stays_in = 1;
bit thief_is_caught = 1;
bit thief_has_lost_for_good = 1;
bit nothing_works_after_the_end = 1;
bit known_revocation_is_made_again = 1;
bit revocation_is_terminal = 1;
bit assumptions_leave_room = 1;  /* not a claim: what is assumed of the client never stops it and the clock */

#define AS_DISPLACED 1
#define AS_CAUGHT 2
#define AS_SHUT_OUT 4
#define AS_ENDED 8
#define AS_DENIED 16
byte barred[TABS + 1];

byte newest;             /* the newest generation ever made: what the thief can steal */
byte displaced;          /* a bit for each generation that a recovery displaced */
bit shutOut;             /* the thief has only tokens older than the live one, and no period is open for them */
bit ended;               /* somebody was told that the session is over */

#if TABS > 1
#define TABS_IDLE (running[0] == 0 && running[1] == 0)
#define WRITER_RUNS (stored.writeID != 0 && (stored.writeID == running[0] || stored.writeID == running[1]))
#else
#define TABS_IDLE (running[0] == 0)
#define WRITER_RUNS (stored.writeID != 0 && stored.writeID == running[0])
#endif
#define THIEF_IDLE (running[THIEF] == 0)
#if INSTANCES > 1
#define IN_DOUBT(id) ((unanswered[0] | unanswered[1]) & (1 << (id)))
#else
#define IN_DOUBT(id) (unanswered[0] & (1 << (id)))
#endif
#define MAY_BE_DONE_AGAIN (!stored.revoked && (WRITER_RUNS || IN_DOUBT(stored.writeID)))

/*
 * What is assumed of an honest client that is alone; with a thief or a logout the claims hold of any client.
 *
 * It refreshes when its access token is used up, which lives longer than the grace: not at once. It takes no reply to a
 * request that is older than the grace. A token that has been consumed works no longer when its period closes; until
 * then each request with it has arrived, and the client has tried again and got its successor, or was told to come
 * later. With a recovery period, none of its requests goes on while the grace closes.
 */
#if HONEST_ONLY && !defined(L_EAGER)
#define REFRESH_IS_DUE (now >= jarSince + GRACE)
#else
#define REFRESH_IS_DUE true
#endif

#if GRACE == 0 || defined(L_PATIENT)
#define STILL_WAITS true
#else
#define STILL_WAITS (now < sentAt + GRACE)
#endif
#if GRACE == 0 && !defined(L_REPLY_LOST)
#define MAY_GET_LOST false
#else
#define MAY_GET_LOST true
#endif

#if INSTANCES == 1 || defined(L_OTHER_INSTANCE)
#define TOLD_TO_COME_LATER IN_DOUBT(stored.writeID)
#else
#define TOLD_TO_COME_LATER false
#endif
#define IS_FRESH(token) ((token) >= stored.generation || now + 1 < stored.rotatedAt + GRACE)
#define WORKS(token) (IS_FRESH(token) || now + 1 < stored.consumedAt + RECOVERY || TOLD_TO_COME_LATER)
#ifdef L_PATIENT
#define TRIES_AGAIN (WORKS(jar) || !(REFRESH_IS_DUE))  /* a late reply looks like a new token */
#else
#define TRIES_AGAIN WORKS(jar)
#endif
#define ARRIVES(tab) (underWay[tab] == 0 || (underWay[tab] - 1 >= jar && WORKS(underWay[tab] - 1)) || \
	(IS_FRESH(underWay[tab] - 1) && now + 1 < jarSince + GRACE))
#if !HONEST_ONLY || GRACE == 0 || defined(L_LATE)
#define TIME_MAY_PASS true
#else
#if RECOVERY == 0 || defined(L_STRADDLE)
#define CROSSES false
#else
#define CROSSES (now + 1 == stored.rotatedAt + GRACE && !TABS_IDLE)
#endif
#if TABS > 1
#define TIME_MAY_PASS (stored.revoked || (TRIES_AGAIN && ARRIVES(0) && ARRIVES(1) && !CROSSES))
#else
#define TIME_MAY_PASS (stored.revoked || (TRIES_AGAIN && ARRIVES(0) && !CROSSES))
#endif
#endif

/* ---- rotation.go ---- */

#ifdef F_PARENT_ALWAYS
#define IN_GRACE (token == stored.predecessor)
#else
#ifdef F_GRANDPARENT
#define IN_GRACE (at < stored.rotatedAt + GRACE)
#else
#define IN_GRACE (token == stored.predecessor && at < stored.rotatedAt + GRACE)
#endif
#endif
#define IN_RECOVERY (token == stored.predecessor && at < stored.consumedAt + RECOVERY)

#ifdef F_HEAL_REVIVES
#define IS_REVOKED (stored.revoked && token <= live)
#else
#define IS_REVOKED (stored.revoked)
#endif
#ifdef F_NO_HEAL
#define IS_NEWER false
#else
#define IS_NEWER (token > live)
#endif
#ifdef F_NO_RACE
#define LOST false
#else
#define LOST (reached > 0 && GRACE > 0 && live >= reached)
#endif

inline decide() {
	at = (LOST && presented > stored.rotatedAt -> stored.rotatedAt : presented);
	if
	:: IS_REVOKED -> what = REVOKED
	:: else -> if
		:: token == live -> what = ROTATED
		:: IS_NEWER -> what = HEALED
		:: else -> if
			:: IN_GRACE -> what = REPLAYED
			:: else -> if
				:: IN_RECOVERY -> what = RECOVERED
				:: else -> what = (LOST -> RACED : REUSED)
				fi
			fi
		fi
	fi;
	/* One more than session.go has: 0 is that the token has not stood. */
	reached = (reached > 0 -> reached : (what == ROTATED || what == HEALED -> token + 1 : (what == RECOVERED -> live + 1 : 0)));
	at = 0
}

/* Writes the end of the session, or what decide said of the record that was loaded. */
inline apply() {
	revocation_is_terminal = (!stored.revoked || ending); assert(revocation_is_terminal);
	push();
	if
	:: ending -> stored.revoked = 1; stored.writeID = id + ENDING
	:: else ->
		if
		:: what == RECOVERED ->
			displaced = displaced | (1 << live);
			stored.generation = live + 1;
#ifdef F_NOT_DISPLACED
			stored.predecessor = live;
#else
			stored.predecessor = predecessor;
#endif
#ifdef F_RECOVERY_SLIDES
			stored.consumedAt = now;
#else
			stored.consumedAt = consumedAt;
#endif
		:: else ->
			stored.generation = token + 1;
			stored.predecessor = token;
			stored.consumedAt = now * (RECOVERY > 0);
			stored.spent = now * (RECOVERY > 0)
		fi;
#ifdef L_SLOW_WRITE
		stored.rotatedAt = presented;
#else
		stored.rotatedAt = now;
#endif
		stored.writeID = id;
		stored.revoked = 0;
		stored.made = now * (THEFTS > 0);
		stored.thiefs = (me == THIEF);
		one_live_successor = (losses < LOSSES || stored.generation >= newest); assert(one_live_successor);
		newest = (stored.generation > newest -> stored.generation : newest)
	fi;
	stored.version = version + 1
}

/* ---- the store ---- */

#ifdef F_NO_CAS
#define FITS true
#else
#ifdef F_VERSION_ONLY
#define FITS (stored.version == version)
#else
#ifdef F_HEAL_REVIVES
#define FITS (stored.version == version && (!stored.revoked || (what == HEALED && !ending)))
#else
#define FITS (stored.version == version && !stored.revoked)
#endif
#endif
#endif

/* Keeps what a failover can bring back, and forgets WriteIDs that nothing can ask for any more. */
inline push() {
	if
	:: losses == 0 -> unanswered[0] = 0
#if INSTANCES > 1
		; unanswered[1] = 0
#endif
	:: else
#if LOSSES > 0
#if DEPTH > 1
		copy(before[1], before[0]);
#endif
		copy(before[0], stored);
		kept = (kept < DEPTH -> kept + 1 : DEPTH)
#endif
	fi
}

#if LOSSES == 0
#define IS_KEPT(id) (stored.writeID == (id))
#else
#if DEPTH > 1
#define IS_KEPT(id) (stored.writeID == (id) || before[0].writeID == (id) || before[1].writeID == (id))
#else
#define IS_KEPT(id) (stored.writeID == (id) || before[0].writeID == (id))
#endif
#endif

/* ---- session.go ---- */

#ifdef F_NO_WRITE_ID
#define IS_OWN(id) false
#else
#define IS_OWN(id) (stored.writeID == (id))
#endif
#ifdef F_NO_DENY
#define IS_DENIED false
#else
#define IS_DENIED (!stored.revoked && denied[instance])
#endif
#ifdef F_NOT_DONE_AGAIN
#define DO_AGAIN false
#else
#define DO_AGAIN (token == stored.predecessor && stored.generation == stored.predecessor + 1 && \
	stored.writeID < ENDING && (unanswered[instance] & (1 << stored.writeID)))
#endif

/* The tokens are sent. Whether they arrive is another matter. */
inline answer(with) {
	one_live_successor = !(barred[me] & AS_DISPLACED); assert(one_live_successor);
	thief_is_caught = !(barred[me] & AS_CAUGHT); assert(thief_is_caught);
	thief_has_lost_for_good = !(barred[me] & AS_SHUT_OUT); assert(thief_has_lost_for_good);
	nothing_works_after_the_end = !(barred[me] & AS_ENDED); assert(nothing_works_after_the_end);
	known_revocation_is_made_again = !(barred[me] & AS_DENIED); assert(known_revocation_is_made_again);
	live = with
}

inline done() {
	running[me] = 0; barred[me] = 0;
	token = 0; presented = 0; sentAt = 0; instance = 0; id = 0; what = 0; live = 0;
	version = 0; predecessor = 0; consumedAt = 0; reached = 0; inDoubt = 0; ending = 0
}

inline verdict() {
	honest_client_stays_in = !(HONEST_ONLY); assert(honest_client_stays_in);
	done()
}

inline over() {
	denied[instance] = 1;
	ended = 1;
	verdict()
}

inline unavailable() {
	if
	:: inDoubt && IS_KEPT(id) -> unanswered[instance] = unanswered[instance] | (1 << id)
	:: else
	fi;
	done()
}

inline choose_instance() {
	if
	:: instance = 0
#if INSTANCES > 1
	:: instance = 1
#endif
	fi
}

proctype Holder(byte me) {
	byte token, presented, sentAt, instance, id, what, live, at, version, predecessor, consumedAt, reached;
	bit inDoubt, ending;

#if THEFTS > 0
	if
	:: me == THIEF ->
end_steal:	atomic {
			!stolen ->
			stolen = 1;
			do
			:: token < newest -> token++
			:: break
			od;
			held = 1 << token;
			token = 0
		}
	:: else
	fi;
#endif

	/* The tabs are alike: the second one takes what comes while the first one is busy. */
end_idle:
	atomic {
		if
		:: me == 0 && calls < CALLS && REFRESH_IS_DUE -> calls++; token = jar; id = calls
#if TABS > 1
		:: me == 1 && running[0] && calls < CALLS && REFRESH_IS_DUE -> calls++; token = jar; id = calls
#endif
#if THEFTS > 0
		:: me == THIEF && thefts < THEFTS ->
			thefts++; id = CALLS + thefts;
			if
			:: held & 1 -> token = 0
			:: held & 2 -> token = 1
			:: held & 4 -> token = 2
			:: held & 8 -> token = 3
			:: held & 16 -> token = 4
			:: held & 32 -> token = 5
			:: held & 64 -> token = 6
			:: held & 128 -> token = 7
			fi
#endif
		fi;
		choose_instance();
		running[me] = id;
		sentAt = now;
		barred[me] = AS_DISPLACED * ((displaced & (1 << token)) && losses == LOSSES) |
			AS_SHUT_OUT * (me == THIEF && shutOut) |
			AS_ENDED * ended |
			AS_DENIED * denied[instance] |
			AS_CAUGHT * (me != THIEF && RECOVERY == 0 && stored.thiefs && !stored.revoked && token < stored.generation &&
				now >= stored.made + GRACE && THIEF_IDLE && !MAY_BE_DONE_AGAIN);
		if
		:: me != THIEF -> underWay[me] = token + 1
		:: else
		fi
	}

attempt:
	atomic { /* Load, and decide */
		if
		:: presented == 0 -> presented = sentAt
		:: presented == 0 && sentAt < now -> presented = now
		:: presented != 0
		fi;
		if
		:: me != THIEF -> underWay[me] = 0
		:: else
		fi;
		if
		:: failures > 0 -> failures--; unavailable(); goto end_idle
		:: true
		fi;
		if
		:: ending && IS_OWN(id + ENDING) -> over(); goto end_idle
		:: !ending && IS_OWN(id) -> answer(stored.generation); goto reply
		:: ending && !stored.revoked && !IS_OWN(id + ENDING)
		:: else ->
			live = stored.generation;
			ending = 0;
			if
			:: IS_DENIED -> ending = 1
			:: else ->
				live = (DO_AGAIN -> live - 1 : live);
				decide();
				if
				:: what == RACED -> unavailable(); goto end_idle
				:: what == REVOKED -> denied[instance] = 1; verdict(); goto end_idle
				:: what == REUSED ->
#ifdef F_REUSE_SPARES
					ended = 1; verdict(); goto end_idle
#else
					ending = 1
#endif
				:: else
				fi
			fi
		fi;
		/* Only what the write needs is kept. */
		version = stored.version;
		if
		:: !ending && what == RECOVERED -> predecessor = stored.predecessor; consumedAt = stored.consumedAt
		:: !ending && what == REPLAYED
		:: else -> live = 0
#ifndef F_HEAL_REVIVES
			; what = (ending -> 0 : ROTATED)
#endif
		fi
	}
	atomic { /* Authorize and sign, and Swap */
		if
		:: !ending && what == REPLAYED ->
#ifdef F_GRACE_SLIDES
			stored.rotatedAt = (stored.version == version -> now : stored.rotatedAt);
#endif
			answer(live);
			goto reply
		:: else
		fi;
		if
		:: FITS -> apply();
			if
			:: ending -> over(); goto end_idle
			:: else -> answer(stored.generation); goto reply
			fi
		:: FITS && failures > 0 -> failures--; inDoubt = 1; apply()  /* the reply is lost */
		:: FITS && failures > 0 -> failures--; inDoubt = 1           /* the request is lost */
		:: !(FITS)                                                   /* ErrConflict */
		fi;
		what = 0; live = 0; version = 0; predecessor = 0; consumedAt = 0;
		goto attempt
	}

reply:
	atomic {
		if
		:: me == THIEF -> held = held | (1 << live)
		:: me != THIEF && STILL_WAITS -> jar = live; jarSince = now
		:: me != THIEF && (MAY_GET_LOST || !(STILL_WAITS))
		fi;
		done();
		goto end_idle
	}
}

/* Revoke, and with it RevokeToken and RevokeSubject. */
#if LOGOUTS > 0
#ifdef F_NO_CAS
#define FITS_LOGOUT true
#else
#define FITS_LOGOUT (stored.version == version && !stored.revoked)
#endif

inline told() { denied[instance] = 1; ended = 1; instance = 0; version = 0 }

inline end_session() {
	push();
	stored.version = version + 1;
	stored.revoked = 1;
	stored.writeID = ENDING
}

proctype Logout() {
	byte instance, version;

	choose_instance();
load:
	atomic {
		if
		:: failures > 0 -> failures--; instance = 0; goto end
		:: stored.revoked -> told(); goto end
		:: !stored.revoked -> version = stored.version
		fi
	}
	atomic { /* Swap */
		if
		:: FITS_LOGOUT -> end_session(); told(); goto end
		:: FITS_LOGOUT && failures > 0 -> failures--; end_session()
		:: FITS_LOGOUT && failures > 0 -> failures--
		:: !(FITS_LOGOUT)
		fi;
		version = 0;
		goto load
	}
end:
	skip
}
#endif

/* Times of which nothing but that they are over can matter are alike. */
inline age(rec) {
	rec.rotatedAt = (now >= rec.rotatedAt + GRACE -> 0 : rec.rotatedAt);
	rec.made = (now >= rec.made + GRACE -> 0 : rec.made);
	rec.consumedAt = (now >= rec.consumedAt + RECOVERY -> 0 : rec.consumedAt);
	rec.spent = (now >= rec.spent + RECOVERY -> 0 : rec.spent)
}

/* What a failover makes of what a request must not be answered for. */
inline forget(who) { barred[who] = barred[who] & (AS_DENIED | (AS_ENDED * ended)) }

#ifdef L_WITHIN_GRACE
#define GRACE_IS_OVER true
#else
#define GRACE_IS_OVER (now >= stored.made + GRACE)
#endif
#ifdef L_DONE_AGAIN
#define IS_SHUT (GRACE_IS_OVER)
#else
#define IS_SHUT (GRACE_IS_OVER && !MAY_BE_DONE_AGAIN)
#endif

/* Time, and failovers. */
proctype World() {
#if LOSSES > 0
	bit revoked;
#endif
end_world:
	do
#if HONEST_ONLY
	:: atomic { timeout && now < END && calls < CALLS -> assumptions_leave_room = 0; assert(assumptions_leave_room) }
#endif
	:: atomic { now < END && TIME_MAY_PASS ->
		now++;
#if THEFTS > 0
		shutOut = shutOut || (stolen && THIEF_IDLE && !stored.revoked && (held >> stored.generation) == 0 &&
			IS_SHUT &&
			(RECOVERY == 0 || (now >= stored.spent + RECOVERY && TABS_IDLE) || !(held & (1 << stored.predecessor))));
#endif
		jarSince = (now >= jarSince + GRACE -> 0 : jarSince);
		if
		:: TABS_IDLE && THIEF_IDLE ->
			age(stored)
#if LOSSES > 0
			; age(before[0])
#if DEPTH > 1
			; age(before[1])
#endif
#endif
		:: else
		fi
	   }
#if LOSSES > 0
	:: atomic { losses > 0 && kept > 0 ->
		losses--;
		revoked = stored.revoked;
		if
		:: copy(stored, before[0])
#if DEPTH > 1
		:: kept > 1 -> copy(stored, before[1])
#endif
		fi;
		clear(before[0]);
#if DEPTH > 1
		clear(before[1]);
#endif
		kept = 0;
		if
		:: revoked -> stored.revoked = 1  /* this it kept */
#ifdef L_REVOCATION_LOST
		:: revoked
#else
		:: revoked -> ended = 0
#endif
		:: !revoked
		fi;
		displaced = 0; shutOut = 0; revoked = 0;
		forget(0);
#if TABS > 1
		forget(1);
#endif
		forget(THIEF)
	   }
#endif
	od
}

init {
	atomic {
		run Holder(0);
#if TABS > 1
		run Holder(1);
#endif
#if THEFTS > 0
		run Holder(THIEF);
#endif
#if LOGOUTS > 0
		run Logout();
#endif
		run World()
	}
}
