package aws

import (
	"context"
	"log/slog"
	"sync"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
)

// session is the SDK's configuration in the region of the environment, read when
// it is first needed. It can be used by several goroutines.
type session struct {
	log *slog.Logger
	// region is another one than that of the environment, if given; as is in whose name
	// is asked.
	region string
	as     AccountRole

	mu     sync.Mutex
	config *sdk.Config
}

// open returns the configuration, with credentials that are there. A failure is
// not remembered.
func (s *session) open(ctx context.Context) (sdk.Config, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.config != nil {
		return *s.config, nil
	}
	config, err := load(ctx, registry{region: s.region}, s.log)
	if err != nil {
		return sdk.Config{}, err
	}
	if s.as.Role != "" {
		if err := s.as.assume(ctx, &config); err != nil {
			return sdk.Config{}, err
		}
	}
	if err := identified(ctx, config); err != nil {
		return sdk.Config{}, err
	}
	s.config = &config
	return config, nil
}

// request bounds one request, with all the SDK's own attempts, which end with ctx
// anyhow.
func request(ctx context.Context) (context.Context, context.CancelFunc) {
	const within = 10 * time.Second
	return context.WithTimeout(ctx, within)
}
