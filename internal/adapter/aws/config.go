package aws

import (
	"context"
	"log/slog"
	"strings"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials/ec2rolecreds"
	"github.com/aws/aws-sdk-go-v2/feature/ec2/imds"
	"github.com/aws/smithy-go/logging"

	"github.com/castellan-security/castellan/internal/fault"
)

const (
	// metadataWithin is how long one answer of the instance's metadata may take.
	// It comes from the machine itself, in milliseconds, or not at all.
	metadataWithin = time.Second
	// metadataAttempts is how often it is asked: outside of AWS nobody answers.
	metadataAttempts = 2
)

// load reads the SDK's configuration for a registry's region.
func load(ctx context.Context, r registry, log *slog.Logger) (sdk.Config, error) {
	options := []func(*config.LoadOptions) error{
		config.WithRegion(r.region),
		config.WithLogger(toLog(log)),
		config.WithEC2RoleCredentialOptions(func(o *ec2rolecreds.Options) {
			o.Client = imds.New(imds.Options{
				HTTPClient: awshttp.NewBuildableClient().WithTimeout(metadataWithin),
				Retryer:    retry.AddWithMaxAttempts(retry.NewStandard(), metadataAttempts),
				// Version 1 can be asked for by whoever can make this host send a
				// request; roles for it are to be refused, not used.
				EnableFallback: sdk.FalseTernary,
			})
		}),
	}
	if r.fips {
		options = append(options, config.WithUseFIPSEndpoint(sdk.FIPSEndpointStateEnabled))
	}
	if r.dualStack {
		options = append(options, config.WithUseDualStackEndpoint(sdk.DualStackEndpointStateEnabled))
	}
	c, err := config.LoadDefaultConfig(ctx, options...)
	if err != nil {
		return sdk.Config{}, fault.New(fault.Unauthenticated, "load AWS configuration: %w", oneLine(err)).
			With("mend ~/.aws/config and ~/.aws/credentials, or unset AWS_PROFILE")
	}
	return c, nil
}

// toLog has the SDK's own words logged for whoever debugs.
func toLog(log *slog.Logger) logging.Logger {
	return logging.LoggerFunc(func(kind logging.Classification, format string, args ...any) {
		log.Debug("aws sdk says", "kind", string(kind), "format", strings.TrimSpace(format), "values", args)
	})
}
