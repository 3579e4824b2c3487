//go:build unix

package servers

import (
	"context"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
)

// A Pooler stands between clients and PostgreSQL.
type Pooler struct {
	*Process
	DSN string // URL of the database postgres, as superuser, through the pooler
}

// Clients asks a PgBouncer how many clients are connected to it, but for the one that asks.
func (p *Pooler) Clients(ctx context.Context) (int, error) {
	cfg, err := pgx.ParseConfig(p.DSN)
	if err != nil {
		return 0, err
	}
	cfg.Database, cfg.DefaultQueryExecMode = "pgbouncer", pgx.QueryExecModeSimpleProtocol
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return 0, err
	}
	defer conn.Close(ctx)
	rows, err := conn.Query(ctx, "SHOW CLIENTS")
	if err != nil {
		return 0, err
	}
	defer rows.Close()
	n := -1
	for rows.Next() {
		n++
	}
	return n, rows.Err()
}

// StartPgBouncer starts a PgBouncer in transaction mode before a server, with this many connections
// to it.
func StartPgBouncer(tb testing.TB, server *Postgres, connections int) *Pooler {
	tb.Helper()
	port := FreePort(tb)
	host, serverPort, _ := net.SplitHostPort(server.Addr)
	return startPooler(tb, "pgbouncer", port, nil, fmt.Sprintf(`[databases]
* = host=%s port=%s user=postgres
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = %d
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = %d
max_client_conn = 1000
ignore_startup_parameters = extra_float_digits
server_login_retry = 1
`, host, serverPort, port, connections))
}

// StartPgpool starts a Pgpool-II that sends what writes or locks to the primary, and what only
// reads to the standby.
func StartPgpool(tb testing.TB, primary, standby *Postgres, settings ...string) *Pooler {
	tb.Helper()
	port := FreePort(tb)
	host, primaryPort, _ := net.SplitHostPort(primary.Addr)
	_, standbyPort, _ := net.SplitHostPort(standby.Addr)
	return startPooler(tb, "pgpool", port, []string{"-n", "-f"}, fmt.Sprintf(`listen_addresses = '127.0.0.1'
port = %d
pcp_listen_addresses = ''
pcp_port = %d
unix_socket_directories = '.'
pcp_socket_dir = '.'
pid_file_name = 'pgpool.pid'
logdir = '.'
work_dir = '.'
backend_clustering_mode = 'streaming_replication'
backend_hostname0 = '%s'
backend_port0 = %s
backend_weight0 = 0
backend_flag0 = 'DISALLOW_TO_FAILOVER'
backend_hostname1 = '%[3]s'
backend_port1 = %[5]s
backend_weight1 = 1
backend_flag1 = 'DISALLOW_TO_FAILOVER'
load_balance_mode = on
sr_check_user = 'postgres'
sr_check_database = 'postgres'
health_check_period = 0
num_init_children = 32
max_pool = 1
`, port, FreePort(tb), host, primaryPort, standbyPort)+strings.Join(settings, "\n")+"\n")
}

func startPooler(tb testing.TB, name string, port int, flags []string, config string) *Pooler {
	tb.Helper()
	path, err := Find(Binary{Name: name,
		Package: map[string]string{"pgbouncer": "pgbouncer", "pgpool": "pgpool2"}[name]})
	if err != nil {
		tb.Fatalf("%v", err)
	}
	folder := NewFolder(tb, name, "postgres")
	file := folder.Join(name + ".conf")
	if err := os.WriteFile(file, []byte(config), 0o644); err != nil {
		tb.Fatalf("servers: %v", err)
	}
	p := &Pooler{DSN: postgresDSN(port)}
	p.Process = Start(tb, Spec{
		Name: name, Path: path, Args: append(flags, file), Folder: folder,
		Ready: func(ctx context.Context) error {
			conn, err := pgx.Connect(ctx, p.DSN+"&default_query_exec_mode=simple_protocol")
			if err != nil {
				return err
			}
			return conn.Close(ctx)
		},
	})
	return p
}
