package redisstore_test

import (
	"context"
	"log"

	"github.com/redis/go-redis/v9"
	"github.com/seed67bc9b7f/tokensession/redisstore"
)

func ExampleNew() {
	client := redis.NewClient(&redis.Options{Addr: "localhost:6379", ContextTimeoutEnabled: true})
	defer client.Close()

	store, err := redisstore.New(client, redisstore.Config{Prefix: "myapp"})
	if err != nil {
		log.Fatal(err)
	}
	if err := store.Check(context.Background()); err != nil {
		log.Print(err) // a setting that may lose sessions
	}
	// tokensession.New(signer, store, tokensession.Config{})
}

func ExampleNew_sentinel() {
	client := redis.NewFailoverClient(&redis.FailoverOptions{
		MasterName:            "mymaster",
		SentinelAddrs:         []string{"sentinel1:26379", "sentinel2:26379", "sentinel3:26379"},
		ContextTimeoutEnabled: true,
	})
	defer client.Close()

	if _, err := redisstore.New(client, redisstore.Config{}); err != nil {
		log.Fatal(err)
	}
}

func ExampleNew_cluster() {
	client := redis.NewClusterClient(&redis.ClusterOptions{
		Addrs:                 []string{"redis1:6379", "redis2:6379", "redis3:6379"},
		ContextTimeoutEnabled: true, // ReadOnly, RouteByLatency and RouteRandomly stay false
	})
	defer client.Close()

	if _, err := redisstore.New(client, redisstore.Config{}); err != nil {
		log.Fatal(err)
	}
}
