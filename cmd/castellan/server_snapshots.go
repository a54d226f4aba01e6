package main

import (
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/castellan-security/castellan/internal/adapter/aws"
	"github.com/castellan-security/castellan/internal/server/respond"
)

// snapshotOptions say to which bucket snapshots of containers go.
type snapshotOptions struct {
	bucket, region, owner, key, lock, role string
}

func (o *snapshotOptions) flags(f *pflag.FlagSet) {
	f.StringVar(&o.bucket, "snapshots-s3", "", "put snapshots of containers there, too: `s3://BUCKET/PREFIX`")
	f.StringVar(&o.region, "snapshots-s3-region", "", "`region` of that bucket (default: that of the environment)")
	f.StringVar(&o.owner, "snapshots-s3-owner", "", "`account` that the bucket must be of")
	f.StringVar(&o.key, "snapshots-s3-key", "", "`ARN` of the KMS key to encrypt them with (default: as the bucket does)")
	f.StringVar(&o.role, "snapshots-s3-role", "", "`ARN[,EXTERNAL-ID]` of a role of the bucket's account that is taken to put them there (default: the server's own)")
	f.StringVar(&o.lock, "snapshots-s3-lock", "", "have S3 refuse to delete them: `governance:DAYS` or compliance:DAYS; the bucket needs Object Lock")
}

// open returns the bucket, or nil for none. It asks nobody yet.
func (o *snapshotOptions) open(log *slog.Logger) (respond.Bucket, error) {
	if o.bucket == "" {
		if o.region != "" || o.owner != "" || o.key != "" || o.lock != "" || o.role != "" {
			return nil, usagef("--snapshots-s3-region, -owner, -key, -role and -lock are about --snapshots-s3, which is not given")
		}
		return nil, nil
	}
	rest, ok := strings.CutPrefix(o.bucket, "s3://")
	if !ok {
		return nil, usagef("--snapshots-s3 %q: want s3://BUCKET or s3://BUCKET/PREFIX", o.bucket)
	}
	name, prefix, _ := strings.Cut(rest, "/")
	if prefix != "" {
		prefix = strings.TrimSuffix(prefix, "/") + "/"
	}
	options := aws.BucketOptions{Name: name, Prefix: prefix, Region: o.region, Owner: o.owner, Key: o.key, As: accountRole(o.role), Log: log}
	if o.lock != "" {
		mode, days, _ := strings.Cut(o.lock, ":")
		n, err := strconv.Atoi(days)
		if mode != "governance" && mode != "compliance" || err != nil || n < 1 || n > 36500 {
			return nil, usagef("--snapshots-s3-lock %q: want governance:DAYS or compliance:DAYS", o.lock)
		}
		options.Lock, options.For = strings.ToUpper(mode), time.Duration(n)*24*time.Hour
	}
	return aws.NewBucket(options)
}

// accountRole reads a role that is written as ARN or ARN,EXTERNAL-ID.
func accountRole(s string) aws.AccountRole {
	arn, external, _ := strings.Cut(s, ",")
	return aws.AccountRole{Role: arn, ExternalID: external}
}

// openAccounts returns the door through which tasks are stopped and sessions revoked,
// with roles written as ARN or ARN,EXTERNAL-ID.
func openAccounts(roles []string, log *slog.Logger) (*aws.Accounts, error) {
	var all []aws.AccountRole
	for _, r := range roles {
		all = append(all, accountRole(r))
	}
	a, err := aws.NewAccounts(all, log)
	if err != nil {
		return nil, fmt.Errorf("--respond-role: %w", err)
	}
	return a, nil
}
