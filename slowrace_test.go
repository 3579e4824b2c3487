package tokensession_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed67bc9b7f/tokensession"
)

// A refresh is held up, here by its authorizer, for far longer than the grace period, while another tab refreshes the
// same token: it was presented in time.
func TestRefresh_thatLosesARaceSlowly(t *testing.T) {
	for name, c := range map[string]struct {
		grace     time.Duration
		refreshes int // by the other tab meanwhile
		want      error
	}{
		"gets the winner's successor":           {0, 1, nil},
		"gets no verdict where it has no more":  {0, 2, tokensession.ErrUnavailable},
		"ends the session where that is strict": {tokensession.Strict, 1, tokensession.ErrReused},
	} {
		t.Run(name, func(t *testing.T) {
			clock := newClock()
			var meanwhile func()
			m := newManager(t, tokensession.NewMemoryStore(), tokensession.Config{
				Now: clock.Now, GracePeriod: c.grace,
				Authorize: func(context.Context, tokensession.Session) (tokensession.Grant, error) {
					if f := meanwhile; f != nil {
						meanwhile = nil
						f()
					}
					return tokensession.Grant{}, nil
				},
			})
			first, err := m.Start(ctx, "alice")
			require.NoError(t, err)
			other := first
			meanwhile = func() {
				for range c.refreshes {
					other, err = m.Refresh(ctx, other.RefreshToken)
					require.NoError(t, err)
				}
				clock.advance(5 * time.Minute)
			}
			slow, err := m.Refresh(ctx, first.RefreshToken)
			require.ErrorIs(t, err, c.want)
			if c.want == nil {
				require.Equal(t, other.RefreshToken, slow.RefreshToken)
			}
			if c.grace != tokensession.Strict {
				_, err = m.Refresh(ctx, other.RefreshToken)
				require.NoError(t, err, "the other tab lives")
			}
		})
	}
}
