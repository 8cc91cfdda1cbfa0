package app

import (
	"errors"
	"testing"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/pythopus/tentagate/app/availability"
)

// The log says what happened, in both directions.
func TestLogOfChanges(t *testing.T) {
	client := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1"})
	defer client.Close()
	engine := availability.New(availability.Options{Client: client})
	defer engine.Close()
	for want, c := range map[string]availability.Change{
		"Redis unreachable; features use their configured fallback":    {State: availability.Unavailable, Reason: errors.New("x")},
		"Redis refuses writes; features use their configured fallback": {State: availability.ReadOnly, Reason: errors.New("x")},
		"Redis reachable again":      {From: availability.Unavailable},
		"Redis accepts writes again": {From: availability.ReadOnly},
	} {
		core, logs := observer.New(zap.InfoLevel)
		c.Partition = engine.Partition("")
		(&Redis{logger: zap.New(core)}).logChange(c)
		if all := logs.All(); len(all) != 1 || all[0].Message != want {
			t.Errorf("want %q, got %v", want, all)
		}
	}
}
