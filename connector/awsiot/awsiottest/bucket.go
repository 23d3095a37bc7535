package awsiottest

import (
	"sync"
	"time"
)

// bucket is a token bucket: rate a second, and as much at once. How AWS
// counts "publish requests per second" is not documented; this is inferred.
type bucket struct {
	rate float64 // 0 or less: no limit

	mu     sync.Mutex
	tokens float64
	last   time.Time
}

func newBucket(rate float64) *bucket {
	return &bucket{rate: rate, tokens: max(1, rate)}
}

func (b *bucket) take(now time.Time) bool {
	if b.rate <= 0 {
		return true
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if passed := now.Sub(b.last); !b.last.IsZero() && passed > 0 {
		b.tokens = min(max(1, b.rate), b.tokens+passed.Seconds()*b.rate)
	}
	if now.After(b.last) {
		b.last = now
	}
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}

// buckets are one for each key.
type buckets struct {
	rate float64

	mu    sync.Mutex
	byKey map[string]*bucket
}

func newBuckets(rate float64) *buckets { return &buckets{rate: rate, byKey: map[string]*bucket{}} }

func (b *buckets) take(key string, now time.Time) bool {
	if b.rate <= 0 {
		return true
	}
	b.mu.Lock()
	one := b.byKey[key]
	if one == nil {
		one = newBucket(b.rate)
		b.byKey[key] = one
	}
	b.mu.Unlock()
	return one.take(now)
}
