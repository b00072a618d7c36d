'use strict';
// One button and one slider move all media of a clip; the first of them sets the time.
for (const clip of document.querySelectorAll('.clip')) {
  const media = [...clip.querySelectorAll('[data-media]')];
  const [first, ...others] = media;
  const button = clip.querySelector('button');
  const slider = clip.querySelector('input[type=range]');
  const clock = clip.querySelector('output');
  const choices = [...clip.querySelectorAll('input[type=radio]')];
  const farthest = 0.04; // seconds between two media before one is moved: a frame at 25 per second

  const follow = () => {
    for (const other of others) {
      if (Math.abs(other.currentTime - first.currentTime) > farthest) {
        other.currentTime = Math.min(first.currentTime, other.duration || 0);
      }
    }
  };
  const show = () => {
    const length = first.duration || 0;
    if (length) slider.value = String(Math.round(1000 * first.currentTime / length));
    const text = `${first.currentTime.toFixed(2)} of ${length.toFixed(2)} s`;
    clock.textContent = text;
    slider.setAttribute('aria-valuetext', text);
  };
  const label = () => { button.textContent = first.paused ? 'Play' : 'Pause'; };
  const tick = () => {
    if (first.paused) return;
    follow();
    show();
    requestAnimationFrame(tick);
  };
  const start = () => {
    if (first.ended || first.currentTime >= first.duration) first.currentTime = 0;
    for (const other of others) other.currentTime = first.currentTime;
    for (const one of media) one.play().catch(() => {});
  };
  const stop = () => { for (const one of media) one.pause(); };

  button.addEventListener('click', () => (first.paused ? start() : stop()));
  first.addEventListener('play', () => { label(); tick(); });
  first.addEventListener('pause', () => { stop(); follow(); label(); show(); });
  first.addEventListener('ended', () => { stop(); label(); show(); });
  first.addEventListener('loadedmetadata', show);
  slider.addEventListener('input', () => {
    stop();
    const time = Number(slider.value) / 1000 * (first.duration || 0);
    for (const one of media) one.currentTime = Math.min(time, one.duration || 0);
    show();
  });
  const listen = () => {
    const chosen = choices.find((choice) => choice.checked);
    for (const one of media) one.muted = !chosen || one.dataset.media !== chosen.value;
  };
  for (const choice of choices) choice.addEventListener('change', listen);
  listen();
  if (first.readyState > 0) show();
}
