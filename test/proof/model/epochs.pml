/*
 * The epochs of one session. A Reauthorize has the access tokens refused that were made before it,
 * while refreshes go on at two instances, the store fails, and a failover loses writes. README.md
 * says what is claimed. The names are those of rotation.go, refresh.go and reauthorize.go.
 *
 * An access token is its epoch here. It is old for a Reauthorize that began after its record was
 * loaded. It is new if no Reauthorize was under way then, and none has begun since.
 */

#ifndef REFRESHES
#define REFRESHES 3
#endif
#ifndef CALLS
#define CALLS 1      /* of Reauthorize */
#endif
#ifndef FAILURES
#define FAILURES 0   /* writes whose reply is lost, whether applied or not */
#endif
#ifndef LOSSES
#define LOSSES 0     /* failovers, each of which loses one or two writes */
#endif

/* The id stands for Version and WriteID: there is one write of each. */
typedef Record { byte id, generation, epoch };

#define copy(to, from) to.id = from.id; to.generation = from.generation; to.epoch = from.epoch
#define later(a, b) (((a) > (b)) -> (a) : (b))
#define nextEpoch(epoch) later((epoch) + 1, now)

Record stored, before[2];
byte kept;             /* how many of before there are */
byte writes, now = 1, failures = FAILURES, losses = LOSSES, refreshes = REFRESHES;
byte known[2];         /* by instance: access tokens of earlier epochs are refused */
byte newest;           /* the newest generation that a client got */

/* For the claims: calls of Reauthorize, and the last access token that each instance gave. */
byte begun, returned;
bit isSound = 1;       /* every instance's new tokens are good everywhere: no failover since */
typedef Token { byte epoch, begun; bit given, new, anywhere };
Token tokens[2];

bit old_is_refused = 1;
bit new_is_accepted = 1;

#define REFUSED(t, i) (tokens[t].epoch < known[i])
#define WRONG(t, i) (tokens[t].given && tokens[t].new && (t == i || tokens[t].anywhere) && REFUSED(t, i))
inline outdate(who, least) {
	known[who] = later(least, known[who]);
	new_is_accepted = !WRONG(0, who) && !WRONG(1, who); assert(new_is_accepted)
}
inline grow_old() { tokens[0].new = 0; tokens[1].new = 0 }

#ifdef F_NO_CAS
#define FITS(loaded) true
#else
#define FITS(loaded) (stored.id == loaded)
#endif
inline write(generation_, epoch_) {
	if
	:: losses > 0 ->
		copy(before[1], before[0]); copy(before[0], stored); kept = (kept < 2 -> kept + 1 : 2)
	:: else
	fi;
	writes++;
	stored.id = writes; stored.generation = generation_; stored.epoch = epoch_
}

#define ROTATED 1
#define HEALED 2
#define REPLAYED 3
#define RAISED 4

#ifdef F_REPLAY_IS_NOT_RAISED
#define IS_RAISED false
#else
#define IS_RAISED (what == REPLAYED && after > epoch)
#endif
#ifdef F_HEAL_KEEPS_THE_EPOCH
#define epochAfter later(epoch, known[me])
#else
#ifdef F_KNOWN_EPOCH_FORGOTTEN
#define epochAfter (what == HEALED -> nextEpoch(epoch) : epoch)
#else
#define epochAfter (what == HEALED -> nextEpoch(later(epoch, known[me])) : later(epoch, known[me]))
#endif
#endif
#ifdef F_STEP_IS_KEPT
#define IS_GOOD_STILL true
#else
#define IS_GOOD_STILL (sentEpoch >= known[me])
#endif

inline answer() {
	newest = later(n + 1, newest);
	tokens[me].given = 1; tokens[me].epoch = after; tokens[me].begun = askedAt;
	tokens[me].new = (freshAt == begun);
	tokens[me].anywhere = wasSound && isSound;
	outdate(me, stored.epoch);
	old_is_refused = (returned == begun && askedAt < returned && calledAt == me ->
		REFUSED(me, me) : true);
	assert(old_is_refused);
	isSound = isSound || stored.epoch >= later(known[0], known[1]);
	n = 0; id = 0; epoch = 0; after = 0; what = 0; sent = 0; sentFor = 0; sentEpoch = 0; sentWhat = 0;
	askedAt = 0; freshAt = 0; wasSound = 0
}

byte calledAt;  /* the instance of the last Reauthorize */

proctype Refresher(byte me) {
	byte n, id, epoch, after, what;
	byte sent, sentFor, sentEpoch, sentWhat;  /* a step: what it wrote, on which record */
	byte askedAt, freshAt;   /* calls begun when the authorizer was asked, and returned at the load */
	bit wasSound;
end_idle:
	atomic {
		refreshes > 0 -> refreshes--;
		if
		:: n = newest
		:: newest > 0 -> n = newest - 1
		fi
	}
again:
	atomic { /* Load, decide, and ask the authorizer. */
		if
		:: sent != 0 && stored.id == sent -> after = sentEpoch; answer(); goto end_idle
		:: else
		fi;
		id = stored.id; epoch = stored.epoch; wasSound = isSound; freshAt = returned;
		what = (n == stored.generation -> ROTATED : (n > stored.generation -> HEALED : REPLAYED));
		if
		:: sentFor == id + 1 && sentWhat == what && IS_GOOD_STILL -> after = sentEpoch
		:: else -> after = epochAfter; askedAt = begun
		fi;
		what = (IS_RAISED -> RAISED : what)
	}
	atomic { /* Sign, and Swap. */
#ifdef F_EPOCH_OF_THE_ANSWER
		after = later(after, known[me]);
#endif
		if
		:: what == REPLAYED -> answer(); goto end_idle
		:: what != REPLAYED && FITS(id) ->
			write((what == RAISED -> n + 1 : n + 1), after); answer(); goto end_idle
		:: what != REPLAYED && FITS(id) && failures > 0 -> failures--;
			write(n + 1, after);
			sent = stored.id; sentFor = id + 1; sentEpoch = after; sentWhat = what
		:: what != REPLAYED && failures > 0 -> failures--;
			sent = 0; sentFor = id + 1; sentEpoch = after; sentWhat = what
		:: what != REPLAYED && !(FITS(id))
		fi;
		goto again
	}
}

#ifdef F_NEXT_NUMBER
#define FIRST_EPOCH later(stored.epoch, known[at]) + 1
#else
#define FIRST_EPOCH nextEpoch(later(stored.epoch, known[at]))
#endif

/* The host has changed the user's rights, and calls Reauthorize. */
proctype Reauthorizer() {
	byte at, id, generation, epoch, found;
end_idle:
	atomic {
		begun < CALLS -> begun++;
		grow_old();
		if
		:: at = 0
		:: at = 1
		fi;
		calledAt = at;
		epoch = FIRST_EPOCH
	}
again:
	atomic { id = stored.id; generation = stored.generation; found = stored.epoch }
	atomic {
		if
		:: found >= epoch -> epoch = found
		:: found < epoch && FITS(id) -> write(generation, epoch)
		:: found < epoch && FITS(id) && failures > 0 -> failures--; write(generation, epoch);
			goto again
		:: found < epoch && failures > 0 -> failures--; goto again
		:: found < epoch && !(FITS(id)) -> goto again
		fi;
#ifndef F_NOT_HERE_AT_ONCE
		outdate(at, epoch);
#endif
		returned = begun; isSound = (stored.epoch >= later(known[0], known[1]));
		old_is_refused = (tokens[0].given && tokens[0].begun < begun -> REFUSED(0, at) : true) &&
			(tokens[1].given && tokens[1].begun < begun -> REFUSED(1, at) : true);
		assert(old_is_refused);
		id = 0; generation = 0; found = 0; epoch = 0; at = 0;
		goto end_idle
	}
}

/* The feed, and failovers. */
proctype World() {
end_world:
	do
	:: atomic { stored.epoch > known[0] -> outdate(0, stored.epoch) }
	:: atomic { stored.epoch > known[1] -> outdate(1, stored.epoch) }
	:: atomic { losses > 0 && kept > 0 ->
		losses--; now = later(now, later(stored.epoch, later(known[0], known[1]))) + 1;
		if
		:: copy(stored, before[0])
		:: kept > 1 -> copy(stored, before[1])
		fi;
		kept = 0;
#ifndef L_OTHER_INSTANCE
		isSound = (stored.epoch >= later(known[0], known[1]))
#endif
	   }
	od
}

init { atomic { run Refresher(0); run Refresher(1); run Reauthorizer(); run World() } }
