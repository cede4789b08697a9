"""Make the schedules of `settings.SCHEDULES`; run again, it changes only what differs."""

from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand
from django.utils import timezone
from django_q.models import Schedule


class Command(BaseCommand):
    help = "Make or update the schedules of the background tasks."

    def handle(self, *args: Any, **options: Any) -> None:
        for task, minutes in settings.SCHEDULES.items():
            schedule, created = Schedule.objects.get_or_create(
                name=task,
                defaults={
                    "func": task,
                    "schedule_type": Schedule.MINUTES,
                    "minutes": minutes,
                    "next_run": timezone.now(),
                },
            )
            if not created and schedule.minutes != minutes:
                schedule.minutes = minutes
                schedule.save(update_fields=["minutes"])
        Schedule.objects.filter(name__contains=".tasks.").exclude(
            name__in=list(settings.SCHEDULES)
        ).delete()
