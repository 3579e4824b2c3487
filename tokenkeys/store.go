package main

import (
	"context"
	"crypto/tls"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/go-sql-driver/mysql"
	_ "github.com/jackc/pgx/v5/stdlib"
	"github.com/redis/go-redis/v9"
	_ "modernc.org/sqlite"

	"github.com/seed67bc9b7f/tokensession/keyring"
	"github.com/seed67bc9b7f/tokensession/redisstore"
	"github.com/seed67bc9b7f/tokensession/sqlstore"
)

// openStore opens the store that a URL names. No error quotes the URL, because a password may be in
// it. It creates nothing: the servers migrate.
func openStore(ctx context.Context, storeURL string, o options) (keyring.Store, func(), error) {
	scheme, rest, ok := strings.Cut(storeURL, ":")
	if !ok {
		return nil, nil, errors.New("the store is no URL: it has to begin with postgres://, mysql://, sqlite: or redis://")
	}
	switch scheme {
	case "postgres", "postgresql":
		return openSQL(ctx, "pgx", storeURL, sqlstore.PostgreSQL, o)
	case "mysql":
		dsn, err := mysqlDSN(storeURL)
		if err != nil {
			return nil, nil, err
		}
		return openSQL(ctx, "mysql", dsn, sqlstore.MySQL, o)
	case "sqlite":
		// With mode=rw a file that is not there is an error. Nothing is to be made by a typing
		// error.
		dsn := "file:" + strings.TrimPrefix(rest, "//") + "?mode=rw&_pragma=busy_timeout(10000)&_pragma=synchronous(FULL)"
		return openSQL(ctx, "sqlite", dsn, sqlstore.SQLite, o)
	case "redis", "rediss", "redis+cluster", "rediss+cluster":
		return openRedis(storeURL, scheme, o)
	}
	return nil, nil, fmt.Errorf("a store cannot begin with %q: it has to be postgres://, mysql://, sqlite: or redis://", scheme+":")
}

func openSQL(
	ctx context.Context, driver, dsn string, dialect sqlstore.Dialect, o options,
) (keyring.Store, func(), error) {
	db, err := sql.Open(driver, dsn)
	if err != nil {
		return nil, nil, errors.New("the store's URL cannot be read")
	}
	store, err := sqlstore.New(db, dialect, sqlstore.Config{Table: o.table})
	if err == nil {
		err = db.PingContext(ctx)
	}
	if err != nil {
		_ = db.Close()
		return nil, nil, err
	}
	return store, func() { _ = db.Close() }, nil
}

// mysqlDSN makes of a URL what the driver wants. Its query is that of the driver's DSN.
func mysqlDSN(storeURL string) (string, error) {
	u, err := url.Parse(storeURL)
	if err != nil || u.Host == "" || strings.Trim(u.Path, "/") == "" {
		return "", errors.New("the store's URL has to be mysql://user:password@host:port/database")
	}
	cfg := mysql.NewConfig()
	if u.RawQuery != "" {
		if cfg, err = mysql.ParseDSN("/?" + u.RawQuery); err != nil {
			return "", errors.New("the options in the store's URL cannot be read")
		}
	}
	cfg.Net, cfg.Addr, cfg.DBName = "tcp", u.Host, strings.TrimPrefix(u.Path, "/")
	if u.Port() == "" {
		cfg.Addr += ":3306"
	}
	cfg.User = u.User.Username()
	cfg.Passwd, _ = u.User.Password()
	return cfg.FormatDSN(), nil
}

func openRedis(storeURL, scheme string, o options) (keyring.Store, func(), error) {
	bare, isCluster := strings.CutSuffix(scheme, "+cluster")
	opts, err := redis.ParseURL(bare + strings.TrimPrefix(storeURL, scheme))
	if err != nil {
		return nil, nil, errors.New("the store's URL has to be redis://user:password@host:port/number")
	}
	universal := &redis.UniversalOptions{
		Addrs: []string{opts.Addr}, DB: opts.DB, Username: opts.Username, Password: opts.Password,
		IsClusterMode: isCluster,
	}
	if opts.TLSConfig != nil {
		universal.TLSConfig = &tls.Config{ServerName: opts.TLSConfig.ServerName,
			MinVersion: tls.VersionTLS12}
	}
	client := redis.NewUniversalClient(universal)
	store, err := redisstore.New(client, redisstore.Config{Prefix: o.prefix})
	if err != nil {
		_ = client.Close()
		return nil, nil, err
	}
	return store, func() { _ = client.Close() }, nil
}
