package redisstore

import (
	_ "embed"

	"github.com/redis/go-redis/v9"
)

// Each script reads and writes one key, given as KEYS[1], so that it runs on a Redis Cluster as on
// a single server. Repeating one changes nothing, because go-redis repeats a command whose reply
// was lost. None has a shebang line with flags: such a script does not exist before Redis 7, and is
// refused as a whole where memory is short.
var (
	//go:embed scripts/create.lua
	createSource string
	//go:embed scripts/swap.lua
	swapSource string
	//go:embed scripts/index.lua
	indexSource string
	//go:embed scripts/announce.lua
	announceSource string
	//go:embed scripts/feed.lua
	feedSource string
	//go:embed scripts/addkey.lua
	addKeySource string

	createScript   = redis.NewScript(createSource)
	swapScript     = redis.NewScript(swapSource)
	indexScript    = redis.NewScript(indexSource)
	announceScript = redis.NewScript(announceSource)
	feedScript     = redis.NewScript(feedSource)
	addKeyScript   = redis.NewScript(addKeySource)
)

// What the scripts answer.
const (
	statusOK          = "OK"
	statusExists      = "EXISTS"
	statusNotFound    = "NOT_FOUND"
	statusConflict    = "CONFLICT"
	statusIncomplete  = "INCOMPLETE"
	statusDamaged     = "DAMAGED"
	statusOtherFormat = "OTHER_FORMAT"
)
