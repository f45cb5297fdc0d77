"""The page that shows a pipeline's cameras."""

import html
from collections.abc import Sequence
from urllib.parse import quote

_STYLE = """
body{font:15px/1.4 system-ui,sans-serif;margin:0;background:#f4f5f7;color:#1b1f24}
header{background:#14324a;color:#fff;padding:.7rem 1rem;font-weight:600}
main{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,420px),1fr));gap:1rem;padding:1rem}
article{background:#fff;border-radius:8px;box-shadow:0 1px 3px #0003;overflow:hidden}
img{width:100%;display:block;background:#dde2e7;min-height:120px}
h2{font-size:1rem;margin:.6rem .8rem .2rem;display:flex;justify-content:space-between;overflow-wrap:anywhere}
p{margin:.2rem .8rem .7rem;color:#4a5560;font-variant-numeric:tabular-nums}
.state{font-weight:600}.live,.ended{color:#17703c}.opening{color:#8a5a00}
.stale,.frozen,.lost,.failed{color:#b3261e}
@media(prefers-color-scheme:dark){body{background:#12161b;color:#e6e9ed}article{background:#1c2229}
p{color:#a9b3bd}img{background:#2a323b}.live,.ended{color:#5fd38d}.opening{color:#e8b64c}
.stale,.frozen,.lost,.failed{color:#ff8a80}}
"""
_SCRIPT = """
async function look(){
  try{
    const told=await (await fetch('v1/cameras')).json();
    for(const card of document.querySelectorAll('article')){
      const one=told.cameras[card.dataset.camera];
      const state=card.querySelector('.state');
      state.textContent=one.state; state.className='state '+one.state;
      const age=one.age_p99_ms===null?'':` · capture to answer ${one.age_p50_ms} ms, p99 ${one.age_p99_ms} ms`;
      const lost=one.losses?` · lost ${one.losses} times`:'';
      const failed=one.failed?` · failed ${one.failed}`:'';
      card.querySelector('p').textContent=
        `${one.fps} frames/s · answered ${one.answered} · dropped ${one.dropped}${failed}${lost}${age}`
        +(one.error?` · ${one.error}`:'');
    }
  }catch(error){for(const state of document.querySelectorAll('.state')){
    state.textContent='no answer';state.className='state lost'}}
  setTimeout(look,1000);
}
look();
"""


def page(cameras: Sequence[str]) -> str:
    """Give the page's HTML: it needs nothing but this server."""
    cards = "".join(_card(name) for name in cameras)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Ferryman: cameras</title>'
        f'<meta name="viewport" content="width=device-width,initial-scale=1"><style>{_STYLE}</style></head>'
        f"<body><header>Ferryman · cameras</header><main>{cards}</main><script>{_SCRIPT}</script></body></html>"
    )


def _card(name: str) -> str:
    shown, path = html.escape(name), quote(name, safe="")
    return (
        f'<article data-camera="{shown}"><img src="v1/cameras/{path}/stream.mjpeg" alt="what {shown} sees now">'
        f'<h2><span>{shown}</span><span class="state opening">opening</span></h2><p></p></article>'
    )
