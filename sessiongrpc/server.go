package sessiongrpc

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/sessionhttp"
)

// A Verifier says what an access token says: a [tokensession.Manager] or a [sessionhttp.Remote].
type Verifier interface {
	Verify(accessToken string) (tokensession.Access, error)
	VerifyLive(ctx context.Context, accessToken string) (tokensession.Access, error)
	SessionContext(
		ctx context.Context, a tokensession.Access, opts ...tokensession.ContextOption,
	) (context.Context, context.CancelFunc)

	// Now is the time by the clock that access tokens are verified with.
	Now() time.Time
}

var (
	_ Verifier = (*tokensession.Manager)(nil)
	_ Verifier = (*sessionhttp.Remote)(nil)
)

// Domain is that of the [errdetails.ErrorInfo] in the status of a refused call.
const Domain = "tokensession"

// The reasons in the [errdetails.ErrorInfo] of a refused call.
const (
	// ReasonNoToken: the call has no access token. The code is Unauthenticated.
	ReasonNoToken = "NO_TOKEN"

	// ReasonInvalidToken: its access token is invalid, expired, outdated or revoked. The client
	// refreshes and tries again, and learns there whether its session is over. The call has reached
	// no handler. The code is Unauthenticated.
	ReasonInvalidToken = "INVALID_TOKEN"

	// ReasonEnded: the stream had begun, and ended because its access token or its session did. The
	// client may refresh and open another one. The code is Unauthenticated.
	ReasonEnded = "ENDED"

	// ReasonInsufficientScope: the code is PermissionDenied, and the metadata has the required
	// scope under "scope".
	ReasonInsufficientScope = "INSUFFICIENT_SCOPE"
)

// An Option is an option of [UnaryServerInterceptor] and [StreamServerInterceptor].
type Option func(*rules)

// Scope requires that the access token has all of these scopes.
func Scope(names ...string) Option {
	return func(r *rules) { r.scope = append(r.scope, names...) }
}

// Live makes each call ask who knows best whether the session lives: see
// [tokensession.Manager.VerifyLive].
func Live() Option { return func(r *rules) { r.live = true } }

// UntilSessionEnds lets a stream go on when its access token expires, for as long as its session
// lives: see [tokensession.UntilSessionEnds].
func UntilSessionEnds() Option { return func(r *rules) { r.untilSessionEnds = true } }

// Public lets calls of a method through without an access token, such as
// "/grpc.health.v1.Health/Check". [FromContext] finds nothing there.
func Public(fullMethods ...string) Option {
	return func(r *rules) {
		for _, name := range fullMethods {
			r.methods[name] = nil
		}
	}
}

// Method gives a method, such as "/notes.v1.Notes/Delete", options of its own beside those for all
// methods.
func Method(fullMethod string, opts ...Option) Option {
	return func(r *rules) { r.methods[fullMethod] = append([]Option{}, opts...) }
}

// rules are what is required of calls.
type rules struct {
	scope                  []string
	auth                   authRule
	live, untilSessionEnds bool

	methods map[string][]Option // of their own; nil: public
}

func rulesOf(opts []Option) rules {
	r := rules{methods: map[string][]Option{}}
	for _, opt := range opts {
		opt(&r)
	}
	return r
}

// of returns what is required of a method, and whether anything is.
func (r rules) of(method string) (_ rules, required bool) {
	own, there := r.methods[method]
	if there && own == nil {
		return r, false
	}
	r.scope, r.auth.methods = slices.Clone(r.scope), slices.Clone(r.auth.methods)
	r.methods = map[string][]Option{}
	for _, opt := range own {
		opt(&r)
	}
	return r, true
}

// FromContext returns what the access token says that an interceptor let through. It is
// [sessionhttp.FromContext], so that the same code serves gRPC and HTTP.
func FromContext(ctx context.Context) (tokensession.Access, bool) {
	return sessionhttp.FromContext(ctx)
}

// UnaryServerInterceptor lets only calls with a valid access token through. The token is in the
// metadata "authorization", after "Bearer ".
//
// Other calls are answered with the code Unauthenticated, PermissionDenied for a missing scope, or
// Unavailable if nobody can tell. The status has an [errdetails.ErrorInfo] with one of the reasons
// of this package, or of Unavailable an [errdetails.RetryInfo].
func UnaryServerInterceptor(v Verifier, opts ...Option) grpc.UnaryServerInterceptor {
	all := rulesOf(opts)
	return func(
		ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler,
	) (any, error) {
		r, required := all.of(info.FullMethod)
		if !required {
			return handler(ctx, req)
		}
		access, err := admit(ctx, v, r)
		if err != nil {
			return nil, err
		}
		return handler(sessionhttp.NewContext(ctx, access), req)
	}
}

// StreamServerInterceptor is [UnaryServerInterceptor] for streams, and ends them: when the access
// token expires, or the session is revoked or changes. With [UntilSessionEnds] they go on while the
// session lives. The stream's context ends, and the client gets the code Unauthenticated, also if
// the handler does not look at its context and waits for a message.
//
// For that, the handler runs in a goroutine of its own. After the stream has ended, its calls of
// SendMsg and RecvMsg return errors.
func StreamServerInterceptor(v Verifier, opts ...Option) grpc.StreamServerInterceptor {
	all := rulesOf(opts)
	return func(
		srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler,
	) error {
		r, required := all.of(info.FullMethod)
		if !required {
			return handler(srv, stream)
		}
		access, err := admit(stream.Context(), v, r)
		if err != nil {
			return err
		}
		var until []tokensession.ContextOption
		if r.untilSessionEnds {
			until = append(until, tokensession.UntilSessionEnds())
		}
		ctx, cancel := v.SessionContext(stream.Context(), access, until...)
		defer cancel()
		ctx = sessionhttp.NewContext(ctx, access)
		return untilDone(ctx, func() error { return handler(srv, &sessionStream{stream, ctx}) })
	}
}

// untilDone returns what f returns, or why the session has ended if that comes first. A panic of f
// stays one of the goroutine that called untilDone, where the host may recover it.
func untilDone(ctx context.Context, f func() error) error {
	type result struct {
		err      error
		panicked any
	}
	done := make(chan result, 1)
	go func() {
		r := result{panicked: errHandlerExited}
		defer func() {
			if p := recover(); p != nil {
				r.panicked = p
			}
			done <- r
		}()
		r.err = f()
		r.panicked = nil
	}()
	select {
	case r := <-done:
		if r.panicked != nil {
			panic(r.panicked)
		}
		if over := sessionOver(ctx); over != nil && r.err != nil {
			return over // the handler says that its context has ended, and not why
		}
		return r.err
	case <-ctx.Done():
	}
	if over := sessionOver(ctx); over != nil {
		return over
	}
	r := <-done // the client has gone, and the handler is told by its stream
	if r.panicked != nil {
		panic(r.panicked)
	}
	return r.err
}

var errHandlerExited = errors.New("sessiongrpc: the handler has called runtime.Goexit")

// sessionOver returns the status of a stream whose session has ended, or nil.
func sessionOver(ctx context.Context) error {
	if cause := context.Cause(ctx); isVerdict(cause) {
		return withDetails(codes.Unauthenticated, "the session has ended or changed",
			reason(ReasonEnded))
	}
	return nil
}

type sessionStream struct {
	grpc.ServerStream
	ctx context.Context
}

func (s *sessionStream) Context() context.Context { return s.ctx }

var (
	errNoToken = errors.New("sessiongrpc: no access token")
	errTwo     = fmt.Errorf("%w: more than one access token", tokensession.ErrInvalidToken)
)

func admit(ctx context.Context, v Verifier, r rules) (tokensession.Access, error) {
	token, err := tokenOf(ctx)
	if err != nil {
		return tokensession.Access{}, refusal(err)
	}
	var access tokensession.Access
	if r.live {
		access, err = v.VerifyLive(ctx, token)
	} else {
		access, err = v.Verify(token)
	}
	if err != nil {
		return tokensession.Access{}, refusal(err)
	}
	granted := strings.Fields(access.Scope)
	for _, name := range r.scope {
		if !slices.Contains(granted, name) {
			return tokensession.Access{}, insufficientScope(r.scope)
		}
	}
	if !r.auth.met(access, v) {
		return tokensession.Access{}, r.auth.refusal()
	}
	return access, nil
}

func tokenOf(ctx context.Context) (string, error) {
	values := metadata.ValueFromIncomingContext(ctx, "authorization")
	switch {
	case len(values) == 0:
		return "", errNoToken
	case len(values) > 1:
		return "", errTwo
	}
	scheme, token, _ := strings.Cut(values[0], " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return "", errNoToken
	}
	return strings.TrimLeft(token, " "), nil
}

func isVerdict(err error) bool {
	return errors.Is(err, tokensession.ErrInvalidToken) || errors.Is(err, tokensession.ErrExpired) ||
		errors.Is(err, tokensession.ErrRevoked)
}

// refusal is the status for an error of verification. It says nothing of the token.
func refusal(err error) error {
	switch {
	case errors.Is(err, errNoToken):
		return withDetails(codes.Unauthenticated, "no access token", reason(ReasonNoToken))
	case errors.Is(err, tokensession.ErrUnavailable) || !isVerdict(err):
		return withDetails(codes.Unavailable, "the access token cannot be verified now",
			&errdetails.RetryInfo{RetryDelay: durationpb.New(time.Second)})
	default:
		return withDetails(codes.Unauthenticated, "invalid access token",
			reason(ReasonInvalidToken))
	}
}

func insufficientScope(required []string) error {
	info := reason(ReasonInsufficientScope)
	info.Metadata = map[string]string{"scope": strings.Join(required, " ")}
	return withDetails(codes.PermissionDenied, "insufficient scope", info)
}

func reason(name string) *errdetails.ErrorInfo {
	return &errdetails.ErrorInfo{Reason: name, Domain: Domain}
}

func withDetails(code codes.Code, message string, detail protoadapt.MessageV1) error {
	s := status.New(code, message)
	if detailed, err := s.WithDetails(detail); err == nil {
		s = detailed
	}
	return s.Err()
}
